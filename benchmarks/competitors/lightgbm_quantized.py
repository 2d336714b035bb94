"""Trains LightGBM with its quantised gradients (`use_quantized_grad`)."""

from benchmarks.competitors.lightgbm_plain import main

if __name__ == "__main__":
    main(use_quantized_grad=True)
