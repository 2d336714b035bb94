"""Computes the metrics that follow from one sort of the rows by score: AUC, average precision, and the points of both
curves.

Memory: one key per row (4 bytes unweighted, 8 weighted); the rest is done in chunks of the sorted keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

CHUNK_ROWS = 1 << 19
CURVE_STEPS = 100  # of each axis: a curve keeps at most 2 * CURVE_STEPS + 2 points
_LOW = np.uint64(0xFFFF_FFFF)


@dataclass(frozen=True)
class Thresholds:
    """Rows ranked by score, highest first, with the summed weights of positives and negatives."""

    auc: float
    average_precision: float
    points: Floats  # (points, 2): summed weight of true and of false positives, from (0, 0) to all rows


def rank(score: Array, positive: Array, weight: Array | None = None) -> Thresholds | None:
    """Exact AUC (ties count half) and average precision (as scikit-learn defines it), with row weights.

    score (rows,) float32 without NaN; positive (rows,) bool; weight (rows,) or None.
    None where both are undefined: no positive or no negative row carries weight.
    """
    positives, negatives = _totals(positive, weight)
    if positives <= 0 or negatives <= 0:
        return None
    area = precision = 0.0
    true, false = 0.0, 0.0  # running totals
    points = [np.zeros((1, 2))]
    for tp, fp in _walk(score, positive, weight):
        true_steps, false_steps = np.diff(tp, prepend=true), np.diff(fp, prepend=false)
        area += float(np.dot(false_steps, tp - 0.5 * true_steps))
        reached = tp + fp
        precision += float(np.dot(true_steps, np.divide(tp, reached, out=np.zeros_like(tp), where=reached > 0)))
        true, false = float(tp[-1]), float(fp[-1])
        points.append(_thin(tp, fp, positives, negatives))
    curve = np.concatenate(points)
    curve = _thin(curve[:, 0], curve[:, 1], positives, negatives)
    return Thresholds(
        auc=min(1.0, area / positives / negatives),
        average_precision=min(1.0, precision / positives),
        points=np.concatenate([np.zeros((1, 2)), curve[curve.sum(axis=1) > 0]]),
    )


def _walk(score: Array, positive: Array, weight: Array | None) -> Iterator[tuple[Floats, Floats]]:
    """Summed weight of true and false positives at every distinct score, from the highest score down, in chunks."""
    keys, shift = _sorted_keys(score, positive, weight)
    true, false = 0.0, 0.0
    start = 0
    low = np.array((1 << shift) - 1, dtype=keys.dtype)
    while start < len(keys):
        stop = min(start + CHUNK_ROWS, len(keys))
        stop = int(np.searchsorted(keys, keys[stop - 1] | low, side="right"))  # ties stay together
        chunk = keys[start:stop]
        scores = chunk >> np.array(shift, dtype=keys.dtype)
        ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(chunk) - 1)
        if weight is None:
            hits = np.cumsum(chunk & low, dtype=np.float64)[ends]
            rows = ends + 1.0
        else:
            index = (chunk & low).astype(np.int64)
            weights = weight[index].astype(np.float64)
            rows = np.cumsum(weights)[ends]
            weights[~positive[index].astype(bool)] = 0
            hits = np.cumsum(weights)[ends]
        tp, fp = true + hits, false + (rows - hits)
        yield tp, fp
        true, false = float(tp[-1]), float(fp[-1])
        start = stop


def descending(score: Array) -> npt.NDArray[np.uint32]:
    """uint32 keys that rise as the float32 scores fall; equal scores (0 and -0 too) have equal keys."""
    bits = (score.astype(np.float32, copy=False) + np.float32(0)).view(np.uint32)
    negative = bits >= np.uint32(0x8000_0000)
    bits ^= np.uint32(0x7FFF_FFFF)
    bits[negative] ^= np.uint32(0x7FFF_FFFF)
    return bits


def _sorted_keys(score: Array, positive: Array, weight: Array | None) -> tuple[npt.NDArray[np.unsignedinteger], int]:
    """The rows as sorted integers: the score's key, above `shift` bits that hold the label or the row's index."""
    keys = descending(score)
    packed: npt.NDArray[np.unsignedinteger]
    if weight is not None:
        assert len(keys) <= int(_LOW)
        packed = keys.astype(np.uint64)
        packed <<= np.uint64(32)
        packed |= np.arange(len(keys), dtype=np.uint64)
        shift = 32
    elif len(keys) == 0 or int(keys.max()) < 0x8000_0000:  # probabilities: the sign bit is free for the label
        packed = keys
        packed <<= np.uint32(1)
        packed |= positive.astype(np.uint32)
        shift = 1
    else:
        packed = keys.astype(np.uint64)
        packed <<= np.uint64(1)
        packed |= positive.astype(np.uint64)
        shift = 1
    packed.sort()
    return packed, shift


def _totals(positive: Array, weight: Array | None) -> tuple[float, float]:
    """Summed weight of the positive and of the negative rows."""
    if weight is None:
        hits = float(np.count_nonzero(positive))
        return hits, len(positive) - hits
    mask = positive.astype(bool, copy=False)
    return float(weight[mask].sum(dtype=np.float64)), float(weight[~mask].sum(dtype=np.float64))


def _thin(tp: Floats, fp: Floats, positives: float, negatives: float) -> Floats:
    """(points, 2): the last point in every cell of a grid of CURVE_STEPS on each axis."""
    level = np.floor(CURVE_STEPS * tp / positives) + np.floor(CURVE_STEPS * fp / negatives)
    keep = np.append(level[1:] != level[:-1], True)
    return np.column_stack([tp[keep], fp[keep]])
