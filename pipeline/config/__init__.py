"""Defines the configuration: the job, its fields and problems, XGBoost's names, the conditions of alarms."""
