"""Rounds by XGBoost: matrices, the communicator, and the tasks that boost."""
