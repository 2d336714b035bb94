"""Measures the package: each part runs by `python -m benchmarks.NAME`; its records are in benchmarks/results/."""
