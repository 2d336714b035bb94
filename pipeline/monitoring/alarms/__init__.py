"""Watches a run's alarms: the conditions, when an alarm fires, and the actions it triggers."""
