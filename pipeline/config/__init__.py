"""What can be asked for: the job, its fields and problems, XGBoost's names, what alarms may watch."""
