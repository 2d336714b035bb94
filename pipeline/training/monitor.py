"""Metrics of every round that do not depend on the layout, and the decision to stop early."""

import math
from dataclasses import dataclass, field

import numpy as np

from pipeline.training.objective import rising

DIGITS = 10  # significant digits kept: sums over workers differ in the sixteenth
KEYS = 65_536  # buckets of a score in the binned AUC


def rounded(value: float) -> float:
    """The value to `DIGITS` significant digits, so that it does not depend on the order of a sum."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else value


@dataclass
class EarlyStopping:
    """Whether training goes on, from one metric of the validation rows."""

    patience: int  # rounds without a better value; 0: never stop
    metric: str
    best_round: int = 0  # counted from 1; 0: none yet
    best: float = field(default=math.nan)

    def observe(self, round_number: int, value: float) -> bool:
        """Takes the value of a round (counted from 1); True when training should stop."""
        better = value > self.best if rising(self.metric) else value < self.best
        if self.best_round == 0 or better or (math.isnan(self.best) and not math.isnan(value)):
            self.best_round, self.best = round_number, value
        return self.patience > 0 and round_number - self.best_round >= self.patience


def score_counts(scores: np.ndarray, label: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Weight of negatives and positives by score bucket, (2, KEYS) float64; additive over workers.

    The bucket is the upper half of the float32 score, ordered: 128 steps for each power of two.  Without
    weights the counts are integers, and their sums are exact.
    """
    bits = np.ascontiguousarray(scores, dtype=np.float32).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | 0x8000_0000)
    key = (ordered >> 16).astype(np.int64) + KEYS * (label > 0.5)
    return np.bincount(key, weights=weight, minlength=2 * KEYS).astype(np.float64).reshape(2, KEYS)


def binned_auc(counts: np.ndarray) -> float:
    """Area under the ROC curve of `score_counts`, ties counted half; NaN with one class only."""
    negative, positive = counts
    below = np.cumsum(negative) - negative / 2
    pairs = negative.sum() * positive.sum()
    return float((positive * below).sum() / pairs) if pairs else math.nan


def binned_aucpr(counts: np.ndarray) -> float:
    """Average precision of `score_counts`: precision at each bucket, weighted by the recall it adds."""
    negative, positive = counts[:, ::-1]
    total = positive.sum()
    hits = np.cumsum(positive)
    taken = hits + np.cumsum(negative)
    if not total:
        return math.nan
    return float((positive * hits / np.maximum(taken, np.finfo(np.float64).tiny)).sum() / total)


BINNED = {"auc": binned_auc, "aucpr": binned_aucpr}  # metrics XGBoost averages over workers
