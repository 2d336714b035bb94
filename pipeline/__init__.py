"""Dask pipeline from a folder of files to a trained boosted-tree model."""
