"""Computes the intercept that XGBoost is given: from all training rows, however they are distributed over workers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelSummary:
    """What the intercept is computed from: all training rows, independent of their distribution over workers."""

    mean: float  # weighted
    values: NDArray[np.float32] | None = None  # (rows,) every label; needed for BY_QUANTILE
    weights: NDArray[np.float32] | None = None  # (rows,); None: all the same


def base_score(objective: str, labels: LabelSummary, quantiles: Sequence[float] = ()) -> float | tuple[float, ...]:
    """Returns the intercept that XGBoost is given, in the space of its predictions; one for each quantile.

    Means and quantiles are exact, over all training rows.
    """
    if objective in ("binary:logistic", "binary:logitraw", "reg:logistic"):
        return float(np.clip(labels.mean, 1e-7, 1 - 1e-7))
    if objective in ("reg:squarederror", "reg:pseudohubererror"):
        return float(labels.mean)
    if objective in ("count:poisson", "reg:gamma", "reg:tweedie"):
        return max(float(labels.mean), 1e-7)
    if objective == "reg:squaredlogerror":
        return max(float(labels.mean), -0.5)
    if objective == "reg:absoluteerror":
        return quantile(labels.values, labels.weights, 0.5)
    if objective == "reg:quantileerror":
        return tuple(quantile(labels.values, labels.weights, alpha) for alpha in quantiles)
    return 0.5


def quantile(values: NDArray[np.float32] | None, weight: NDArray[np.float32] | None, alpha: float) -> float:
    """Returns the smallest value at or below which a share `alpha` of the weight lies, in any order of the rows."""
    assert values is not None  # an objective of BY_QUANTILE
    order = np.argsort(values) if weight is None else np.lexsort((weight, values))
    mass = np.ones(len(values)) if weight is None else weight[order].astype(np.float64)
    below = np.cumsum(mass)
    place = int(np.searchsorted(below, alpha * below[-1]))
    return float(values[order][min(place, len(values) - 1)])
