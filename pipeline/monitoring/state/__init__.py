"""Builds the state of each run from its events alone."""
