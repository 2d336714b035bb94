"""Generates synthetic data of any size."""
