"""Measurements: each runs by `python -m benchmarks.NAME`, its records lie under benchmarks/results/."""
