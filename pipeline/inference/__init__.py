"""Predicts and evaluates data of any size on a cluster."""
