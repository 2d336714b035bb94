"""Runs the experiment `pipeline scale`: measures, predicts and explains how boosting scales."""
