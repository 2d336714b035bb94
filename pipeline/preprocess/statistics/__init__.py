"""Collects the first pass's statistics of the columns, which can be merged."""
