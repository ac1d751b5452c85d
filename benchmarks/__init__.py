"""Benchmarks of streamerge against other tools that do the same work, or part of it.

Run ``python -m benchmarks --quick``.
"""
