"""Computes gradients on a grid so coarse that their sums in double precision are exact.

XGBoost adds up gradients in doubles, in an order that depends on the workers and their rows, so the last bit of a leaf
can depend on it.  Multiples of `2^(e - 22)` no larger than `2^e` have exact sums up to 2^31 rows: then nothing depends
on any order, and the model file is the same, byte for byte, for any layout.  (XGBoost does something similar on the
GPU.)  `exact_sums.py` measures the cost.
"""

import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pipeline.preprocess.bins import CHUNK_ROWS

SQUARED = "reg:squarederror"  # any other objective is treated as a logistic one

Reduce = Callable[[float], float]  # returns the largest of all workers' values
Mask = Callable[[slice], np.ndarray]  # boolean: which of these rows take part in the round


def gradient_threads(threads: int) -> int:
    """Returns the threads for `compute`: half of them, since XGBoost's own keep spinning a while after its work."""
    return max(1, threads // 2)


class GridGradients:
    """First and second derivatives of the rows of one worker."""

    def __init__(self, objective: str, label: np.ndarray, weight: np.ndarray | None, reduce: Reduce) -> None:
        self._squared = objective == SQUARED
        self._label, self._weight, self._reduce = label, weight, reduce
        self.first = np.empty(len(label), np.float32)  # (rows,)
        self.second = np.empty(len(label), np.float32)  # (rows,)
        largest = 1.0 if weight is None else float(weight.max(initial=0.0))
        self._weight_offset = grid_offset(reduce(largest))

    def compute(self, margin: np.ndarray, mask: Mask | None, pool: ThreadPoolExecutor, threads: int) -> None:
        """Fills `first` and `second` from the margins (rows,) float32."""
        bounds = np.linspace(0, len(margin), threads + 1).astype(int)
        shares = [
            [slice(start, min(start + CHUNK_ROWS, last)) for start in range(first, last, CHUNK_ROWS)]
            for first, last in itertools.pairwise(bounds)
        ]
        if not self._squared:
            list(pool.map(lambda chunks: self._logistic(margin, mask, chunks), shares))
            return
        largest = max(pool.map(lambda chunks: self._residuals(margin, mask, chunks), shares), default=0.0)
        offset = grid_offset(self._reduce(largest))
        list(
            pool.map(lambda chunks: _round(self.first[chunks[0].start : chunks[-1].stop], offset), filter(None, shares))
        )

    def _logistic(self, margin: np.ndarray, mask: Mask | None, chunks: list[slice]) -> None:
        """Computes p - y and p (1 - p), times the weight, on the grid."""
        one = np.float32(1)
        for rows in chunks:
            first, second = self.first[rows], self.second[rows]
            np.negative(margin[rows], out=first)
            np.minimum(first, np.float32(88), out=first)  # exp stays finite
            np.exp(first, out=first)
            first += one
            np.reciprocal(first, out=first)
            np.multiply(first, first, out=second)
            np.subtract(first, second, out=second)
            first -= self._label[rows]
            self._weigh(rows, mask, first, second)
            _round(first, self._weight_offset)
            _round(second, self._weight_offset)

    def _residuals(self, margin: np.ndarray, mask: Mask | None, chunks: list[slice]) -> float:
        """Computes prediction - y and 1, times the weight; returns the largest of the first, not yet on its grid."""
        largest = 0.0
        for rows in chunks:
            first, second = self.first[rows], self.second[rows]
            np.subtract(margin[rows], self._label[rows], out=first)
            second.fill(1)
            self._weigh(rows, mask, first, second)
            _round(second, self._weight_offset)
            largest = max(largest, float(first.max()), -float(first.min()))
        return largest

    def _weigh(self, rows: slice, mask: Mask | None, *arrays: np.ndarray) -> None:
        taken = None if mask is None else mask(rows)
        for array in arrays:
            if self._weight is not None:
                array *= self._weight[rows]
            if taken is not None:
                array *= taken


def grid_offset(largest: float) -> np.float32:
    """Returns what `_round` adds and subtracts for values up to `largest`: 3 times the next power of two."""
    exponent = math.frexp(largest)[1] if largest > 0 else 0
    return np.float32(3.0 * 2.0 ** min(max(exponent, -100), 120))


def _round(values: np.ndarray, offset: np.float32) -> None:
    """Rounds in place: the sum has no bits below the grid."""
    values += offset
    values -= offset
