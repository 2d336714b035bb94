"""Trains with XGBoost: matrices, the communicator, and the tasks that boost."""
