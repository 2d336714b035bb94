"""The state of runs from their events, and what acts on it: publishing, Prometheus, alarms."""
