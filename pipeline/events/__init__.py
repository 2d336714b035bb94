"""Defines the events of a run: their kinds and fields, findings, and events in a file."""
