"""Tests of the benchmarks; tox runs them in the environment ``smoke``."""
