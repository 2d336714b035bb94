"""Determines the columns of a source: one schema, the role of each, derived ones, the target."""
