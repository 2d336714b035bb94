"""Holds what an expert writes by hand for the same task, each a separate script: Parquet in, a model and its AUC out."""
