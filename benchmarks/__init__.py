"""Benchmarks of streamerge against what else does the work, or a part of it.

Run ``python -m benchmarks --quick``.
"""
