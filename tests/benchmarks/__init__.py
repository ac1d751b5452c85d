"""Tests of the benchmarks; tox runs them in its environment "smoke"."""
