"""Runs the boosting rounds: which worker holds which rows, checkpoints, recovery when workers leave or join."""
