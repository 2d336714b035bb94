"""Synthetic data of any size."""
