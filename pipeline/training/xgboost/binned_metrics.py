"""Computes per-round metrics that do not depend on the layout, and decides early stopping."""

import math
from dataclasses import dataclass, field

import numpy as np

from pipeline.config.metric_registry import BY_COUNTS, rising

DIGITS = 10  # significant digits kept: sums over workers differ in the sixteenth
KEYS = 65_536  # buckets of a score in the binned AUC


def rounded(value: float) -> float:
    """Rounds the value to `DIGITS` significant digits, so that it does not depend on the order of a sum."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else value


@dataclass
class EarlyStopping:
    """Decides whether training continues, from one metric of the validation rows.  NaN is never the best value."""

    patience: int  # rounds without a better value; 0: never stop, and the last round is the best
    metric: str
    best_round: int = 0  # counted from 1; 0: none yet
    best: float = field(default=math.nan)

    def observe(self, round_number: int, value: float) -> bool:
        """Takes the value of a round (counted from 1); returns True if training should stop."""
        if self.patience == 0:
            self.best_round, self.best = round_number, value
            return False
        if math.isnan(value):
            return self.best_round > 0 and round_number - self.best_round >= self.patience
        better = value > self.best if rising(self.metric) else value < self.best
        if self.best_round == 0 or better:
            self.best_round, self.best = round_number, value
        return round_number - self.best_round >= self.patience


class ScoreCounts:
    """Counts the positive and negative rows of one side by score.

    The bucket is the upper half of the float32 score: 128 steps for each power of two.  Without weights the
    counts are integers, and their sums over workers are exact.
    """

    def __init__(self, label: np.ndarray, weight: np.ndarray | None) -> None:
        self._offset = (label > 0.5).astype(np.intp) * KEYS
        self._weight = weight

    def count(self, scores: np.ndarray) -> np.ndarray:
        """Weight of negatives and positives by bucket, (2, KEYS) float64, scores rising; additive over workers."""
        flat = np.ascontiguousarray(scores, dtype=np.float32).reshape(-1)  # XGBoost's are (0, 1) if there are no rows
        upper = flat.view("<u2")[1::2]
        counts = np.bincount(self._offset + upper, weights=self._weight, minlength=2 * KEYS)
        positive, negative = counts.reshape(2, 2, -1).transpose(1, 0, 2)  # by the sign bit
        return np.concatenate([negative[:, ::-1], positive], axis=1, dtype=np.float64)


def binned_auc(counts: np.ndarray) -> float:
    """Returns the area under the ROC curve of `ScoreCounts.count`, ties counted half; NaN with one class only."""
    negative, positive = counts
    below = np.cumsum(negative) - negative / 2
    pairs = negative.sum() * positive.sum()
    return float((positive * below).sum() / pairs) if pairs else math.nan


def binned_aucpr(counts: np.ndarray) -> float:
    """Returns the average precision of `ScoreCounts.count`: precision at each bucket, weighted by the recall it adds.

    Rows of a bucket count as tied, which lowers it by about 0.0002: good enough to compare rounds.
    """
    negative, positive = counts[:, ::-1]
    total = positive.sum()
    hits = np.cumsum(positive)
    taken = hits + np.cumsum(negative)
    if not total:
        return math.nan
    return float((positive * hits / np.maximum(taken, np.finfo(np.float64).tiny)).sum() / total)


COMPUTATIONS = {"auc": binned_auc, "aucpr": binned_aucpr}
assert COMPUTATIONS.keys() == BY_COUNTS
