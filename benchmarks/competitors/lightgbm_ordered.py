"""Trains LightGBM on rows in the order in which this project keeps them."""

from benchmarks.competitors.lightgbm_plain import main

if __name__ == "__main__":
    main(ordered=True)
