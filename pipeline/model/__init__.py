"""Saves, checks and loads model folders, and predicts in one process."""
