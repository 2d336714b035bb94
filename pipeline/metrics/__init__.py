"""Computes exact metrics of predictions, and the curves behind them."""
