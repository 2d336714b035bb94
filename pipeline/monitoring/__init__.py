"""Builds the state of runs from their events, and acts on it: publishing, Prometheus, alarms."""
