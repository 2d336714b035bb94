"""Runs one training from the job to its model folder."""
