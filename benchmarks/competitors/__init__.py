"""What an expert writes by hand for the same task, each a script of its own: Parquet in, a model and its AUC out."""
