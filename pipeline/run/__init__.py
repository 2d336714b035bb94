"""A training from the job to its model folder."""
