"""Predictions and metrics of any amount of data, on a cluster."""
