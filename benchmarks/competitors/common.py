"""Holds what the scripts share: their arguments, the AUC, and their last line of JSON."""

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

LABEL = "label"
BLOCK_ROWS = 125_000  # a file of the benchmark
CUT_ROWS = 262_144  # sampled for cut points


@dataclass(frozen=True)
class Task:
    """The same for every competitor."""

    train: Path  # a folder of Parquet files: `label` and float32 features
    heldout: Path  # one such file
    out: Path  # an existing folder for the model
    rounds: int
    depth: int
    max_bin: int
    learning_rate: float
    workers: int
    threads: int  # in all

    def xgboost_params(self) -> dict[str, object]:
        return {
            "objective": "binary:logistic",
            "tree_method": "hist",
            "max_depth": self.depth,
            "max_bin": self.max_bin,
            "learning_rate": self.learning_rate,
            "nthread": self.threads,
        }


def parse() -> Task:
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--max-bin", type=int, default=255)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return Task(**vars(parser.parse_args()))


class Stopwatch:
    """Measures the seconds of consecutive stages: `lap("read")` ends the stage `read`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now


def matrix(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Returns ((rows, features) float32 in C order, (rows,) float32 labels)."""
    names = [name for name in table.column_names if name != LABEL]
    values = np.empty((table.num_rows, len(names)), dtype=np.float32)
    for number, name in enumerate(names):
        values[:, number] = table[name].to_numpy()
    return values, table[LABEL].to_numpy().astype(np.float32)


def in_our_order(values: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows in the order in which this project keeps them: by a key, within each block.

    For a fair comparison: what the order brings to those who sort their rows themselves.
    """
    from pipeline.preprocess.bins import encode, make_cuts
    from pipeline.preprocess.row_order import fit_row_order, sample_rows

    features, sampled = values.shape[1], slice(None, None, max(1, len(values) // CUT_ROWS))
    cuts = make_cuts(values[sampled], (None,) * features)

    def codes(rows: np.ndarray) -> np.ndarray:
        return np.column_stack([encode(np.ascontiguousarray(rows[:, f]), f, cuts) for f in range(features)])

    few = slice(None, None, max(1, len(values) // sample_rows(features)))
    order = fit_row_order(codes(values[few]), label[few], None, cuts.levels)
    for first in range(0, len(values), BLOCK_ROWS):
        block = slice(first, first + BLOCK_ROWS)
        places = order.positions(codes(values[block]))
        values[block], label[block] = values[block][places], label[block][places]
    return values, label


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Computes the exact area under the ROC curve; tied scores count half.

    >>> auc(np.array([0, 1, 0, 1]), np.array([0.1, 0.9, 0.4, 0.4]))
    0.875
    """
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    positive = label > 0
    count = int(positive.sum())
    above = float(ranks[place[positive]].sum()) - count * (count + 1) / 2
    return above / (count * (len(label) - count))


def finish(watch: Stopwatch, score: float, **more: object) -> None:
    print(json.dumps({"auc": score, "seconds": watch.seconds, **more}))
