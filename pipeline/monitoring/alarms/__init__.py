"""Alarms of a run: what may be watched, when that is told, and what is done about it."""
