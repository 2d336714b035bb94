"""Computes the curves behind the metrics, small enough for a page: ROC, precision-recall, calibration, residuals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.metrics.exact import as_probability, weighted_quantiles
from pipeline.metrics.ranking import evaluate_queries
from pipeline.metrics.thresholds import Array, Floats, rank

CALIBRATION_BINS = 20
HISTOGRAM_BINS = 60
MOST_CURVES = 8  # classes that get curves of their own: those with most weight


@dataclass(frozen=True)
class ClassCurves:
    """One class against the rest."""

    index: int  # of the class; 1 for binary targets
    auc: float
    average_precision: float
    false_positive_rate: Floats  # (points,), rising, with `recall` the ROC curve
    recall: Floats  # (points,)
    precision: Floats  # (points,)
    predicted: Floats  # (bins,) mean probability of equally heavy bins of rows
    observed: Floats  # (bins,) share of the class in each


@dataclass(frozen=True)
class Histogram:
    """Weight of the rows (or queries) between edges."""

    edges: Floats  # (bins + 1,)
    counts: Floats  # (bins,)


@dataclass(frozen=True)
class Curves:
    """The curves of a report; empty where the target has no such curve."""

    classes: tuple[ClassCurves, ...] = ()
    errors: Histogram | None = None  # regression: prediction - label, its outer half percents left out
    fit: tuple[Floats, Floats] | None = None  # regression: mean prediction and mean label of equally heavy bins
    queries: Histogram | None = None  # ranking: NDCG of the queries


def curves(
    kind: str,
    objective: str,
    prediction: Array,
    label: Array,
    weight: Array | None = None,
    group: Array | None = None,
    *,
    quantiles: Sequence[float] = (),
) -> Curves:
    """The curves of finite predictions; arguments as in `pipeline.metrics.exact.evaluate`."""
    if len(label) == 0 or (weight is not None and not weight.any()):
        return Curves()
    if kind == "binary":
        found = _class_curves(as_probability(objective, prediction), label > 0.5, weight, 1)
        return Curves(classes=() if found is None else (found,))
    if kind == "multiclass":
        return Curves(classes=_classes(prediction, label, weight))
    if kind == "regression":
        if prediction.ndim == 2:
            middle = int(np.argmin(np.abs(np.asarray(quantiles) - 0.5))) if len(quantiles) > 1 else 0
            prediction = prediction[:, middle]
        return Curves(errors=_errors(prediction, label, weight), fit=_binned(prediction, label, weight))
    if group is None:
        raise ValueError("ranking needs the group of each row")
    scores, weights = evaluate_queries(label, prediction, group, weight)
    counts, edges = np.histogram(scores, bins=25, range=(0, 1), weights=weights)
    return Curves(queries=Histogram(edges, counts.astype(np.float64)))


def _classes(prediction: Array, label: Array, weight: Array | None) -> tuple[ClassCurves, ...]:
    """Curves of the heaviest classes, in the order of the classes; none for crisp predictions."""
    if prediction.ndim == 1:
        return ()
    heavy = np.bincount(label.astype(np.int64), weights=weight, minlength=prediction.shape[1])
    chosen = sorted(np.argsort(-heavy, kind="stable")[:MOST_CURVES].tolist())
    found = (_class_curves(prediction[:, k], label == k, weight, k) for k in chosen)
    return tuple(curve for curve in found if curve is not None)


def _class_curves(score: Array, positive: Array, weight: Array | None, index: int) -> ClassCurves | None:
    ranked = rank(score, positive, weight)
    if ranked is None:
        return None
    tp, fp = ranked.points[:, 0], ranked.points[:, 1]
    reached = tp + fp
    precision = np.divide(tp, reached, out=np.ones_like(tp), where=reached > 0)
    precision[0] = precision[1]  # at recall 0 precision is undefined: the curve starts flat
    predicted, observed = _binned(score, positive, weight)
    return ClassCurves(
        index, ranked.auc, ranked.average_precision, fp / fp[-1], tp / tp[-1], precision, predicted, observed
    )


def _binned(prediction: Array, label: Array, weight: Array | None) -> tuple[Floats, Floats]:
    """Mean prediction and mean label (bins,) of at most CALIBRATION_BINS equally heavy bins of rows by prediction.

    Rows of equal prediction share a bin.
    """
    shares = np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS
    edges = np.unique(np.asarray(weighted_quantiles(prediction, weight, shares.tolist()), dtype=np.float32))
    place = np.searchsorted(edges, prediction, side="left")
    rows = np.bincount(place, weights=weight, minlength=len(edges) + 1)
    used = rows > 0
    means = [_summed(values, place, weight, len(rows))[used] / rows[used] for values in (prediction, label)]
    return means[0], means[1]


def _summed(values: Array, place: npt.NDArray[np.intp], weight: Array | None, bins: int) -> Floats:
    weighted = values.astype(np.float64) if weight is None else values * weight.astype(np.float64)
    return np.bincount(place, weights=weighted, minlength=bins)


def _errors(prediction: Array, label: Array, weight: Array | None) -> Histogram:
    """Histogram of prediction - label between its 0.5 % and 99.5 % quantiles."""
    errors = prediction.astype(np.float32, copy=False) - label
    low, high = weighted_quantiles(errors, weight, (0.005, 0.995))
    counts, edges = np.histogram(errors, bins=HISTOGRAM_BINS, range=(low, high), weights=weight)
    return Histogram(edges.astype(np.float64), counts.astype(np.float64))
