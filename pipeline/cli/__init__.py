"""Implements the command line: verbs, options, and the display of a run."""
