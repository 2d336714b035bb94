"""Computes exact metrics of predictions, over all rows at once, with row weights.

The metrics depend on the rows and not on their order, except for the last bits of float64 sums.  A metric that the rows
do not define (AUC of a single class, R2 of a constant label) is left out; without rows, or weight, all metrics are left
out.

| target     | metrics                                                                       |
|------------|-------------------------------------------------------------------------------|
| binary     | logloss, auc, average_precision, accuracy, brier, confusion                   |
| multiclass | the same; auc and average_precision are means over one class against the rest |
| regression | rmse, mae, r2, error_p01 ... error_p99 (prediction - label); pinball and, for each quantile q, pinball_q and below_q (share of labels at or below the prediction) for reg:quantileerror |
| ranking    | ndcg@5, ndcg@10, ndcg, map                                                    |
"""

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.errors import DataError
from pipeline.metrics.ranking import evaluate_ranking
from pipeline.metrics.thresholds import Array, Floats, rank

Metrics = dict[str, float | list[list[float]]]

CHUNK_ROWS = 1 << 18
SMALLEST = 1e-16  # probability in a logarithm, as in XGBoost's logloss
ERROR_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MOST_CLASSES = 100  # with more classes auc, average_precision and confusion are left out: a sort and a table per class


def evaluate(
    kind: str,
    objective: str,
    prediction: Array,
    label: Array,
    weight: Array | None = None,
    group: Array | None = None,
    *,
    quantiles: Sequence[float] = (),
) -> Metrics:
    """The metrics for a kind of target ("binary", "multiclass", "regression", "ranking").

    prediction (rows,) or (rows, classes or quantiles) float32, as XGBoost returns it; label (rows,), the class index
    for classification; weight, group (rows,).  DataError where predictions are not finite.
    """
    if len(label) == 0 or (weight is not None and not weight.any()):
        return {}
    if not np.isfinite(prediction).all():
        raise DataError("predictions are not finite: training diverged; lower learning_rate or scale the target")
    if kind == "binary":
        return evaluate_binary(label, as_probability(objective, prediction), weight, crisp=objective == "binary:hinge")
    if kind == "multiclass":
        return _evaluate_multiclass(label, prediction, weight)
    if kind == "regression":
        return _evaluate_regression(label, prediction, weight, quantiles=quantiles)
    if group is None:
        raise ValueError("ranking needs the group of each row")
    return dict(evaluate_ranking(label, prediction, group, weight))


def as_probability(objective: str, prediction: Array) -> Array:
    """An objective's predictions; raw margins of binary:logitraw are converted to probabilities (float32)."""
    if objective != "binary:logitraw":
        return prediction
    return (1 / (1 + np.exp(-np.clip(prediction.astype(np.float64), -700, 700)))).astype(np.float32)


def evaluate_binary(label: Array, probability: Array, weight: Array | None = None, *, crisp: bool = False) -> Metrics:
    """Metrics of the probability of class 1; `crisp` predictions are 0 or 1, so that logloss and brier are meaningless."""
    loss = brier = total = 0.0
    confusion = np.zeros(4)
    for part, w in _chunks(len(label), weight):
        y, p = label[part] > 0.5, probability[part].astype(np.float64)
        loss -= _dot(np.log(np.maximum(np.where(y, p, 1 - p), SMALLEST)), w)
        brier += _dot(np.square(p - y), w)
        confusion += np.bincount(2 * y.astype(np.int64) + (p > 0.5), weights=w, minlength=4)
        total += _total(len(y), w)
    ranked = rank(probability, label > 0.5, weight)
    metrics: Metrics = {} if crisp else {"logloss": loss / total}
    if ranked is not None:
        metrics |= {"auc": ranked.auc, "average_precision": ranked.average_precision}
    metrics["accuracy"] = float(confusion[0] + confusion[3]) / total
    if not crisp:
        metrics["brier"] = brier / total
    return metrics | {"confusion": confusion.reshape(2, 2).tolist()}


def _evaluate_multiclass(label: Array, prediction: Array, weight: Array | None = None) -> Metrics:
    """Metrics of class probabilities (rows, classes), or of class indexes (rows,) as multi:softmax predicts them."""
    if prediction.ndim == 1:
        return _evaluate_crisp(label, prediction, weight)
    classes = prediction.shape[1]
    loss = brier = total = 0.0
    confusion = np.zeros(classes * classes if classes <= MOST_CLASSES else 0)
    correct = 0.0
    for part, w in _chunks(len(label), weight):
        y, p = label[part].astype(np.int64), prediction[part].astype(np.float64)
        own = np.take_along_axis(p, y[:, None], axis=1)[:, 0]
        guess = p.argmax(axis=1)
        loss -= _dot(np.log(np.maximum(own, SMALLEST)), w)
        brier += _dot(np.einsum("ij,ij->i", p, p) - 2 * own + 1, w)
        correct += _dot((guess == y).astype(np.float64), w)
        if len(confusion):
            confusion += np.bincount(classes * y + guess, weights=w, minlength=len(confusion))
        total += _total(len(y), w)
    metrics: Metrics = {"logloss": loss / total}
    if len(confusion):
        metrics |= _one_against_rest(label, prediction, weight)
    metrics |= {"accuracy": correct / total, "brier": brier / total}
    if len(confusion):
        metrics["confusion"] = confusion.reshape(classes, classes).tolist()
    return metrics


def _evaluate_regression(
    label: Array, prediction: Array, weight: Array | None = None, *, quantiles: Sequence[float] = ()
) -> Metrics:
    """Metrics of predicted numbers (rows,), or of quantiles (rows, quantiles), evaluated at the one nearest the median."""
    columns = prediction[:, None] if prediction.ndim == 1 else prediction
    middle = int(np.argmin(np.abs(np.asarray(quantiles) - 0.5))) if len(quantiles) > 1 else 0
    center = columns[:, middle]
    total = mean = 0.0
    for part, w in _chunks(len(label), weight):
        mean += _dot(label[part].astype(np.float64), w)
        total += _total(len(label[part]), w)
    mean /= total
    squares = absolutes = spread = 0.0
    for part, w in _chunks(len(label), weight):
        y = label[part].astype(np.float64)
        error = center[part] - y
        squares += _dot(np.square(error), w)
        absolutes += _dot(np.abs(error), w)
        spread += _dot(np.square(y - mean), w)
    metrics: Metrics = {"rmse": float(np.sqrt(squares / total)), "mae": absolutes / total}
    if spread > 0:
        metrics["r2"] = 1 - squares / spread
    metrics |= _pinball(label, columns, weight, quantiles)
    values = weighted_quantiles(center.astype(np.float32, copy=False) - label, weight, ERROR_QUANTILES)
    return metrics | {f"error_p{round(100 * q):02d}": value for q, value in zip(ERROR_QUANTILES, values, strict=True)}


def weighted_quantiles(values: Array, weight: Array | None, shares: Sequence[float]) -> list[float]:
    """For each share the smallest value at which that share of the weight is reached."""
    if weight is None:
        ranks = [max(0, int(np.ceil(share * len(values) - 1e-9)) - 1) for share in shares]
        parted = np.partition(values, ranks)
        return [float(parted[place]) for place in ranks]
    order = np.argsort(values)
    reached = np.cumsum(weight[order], dtype=np.float64)
    places = np.searchsorted(reached, np.asarray(shares) * reached[-1] * (1 - 1e-12))
    return [float(values[order[place]]) for place in places]


def _pinball(label: Array, columns: Array, weight: Array | None, quantiles: Sequence[float]) -> Metrics:
    """Pinball loss and coverage for each quantile, and the mean loss of all."""
    if not quantiles:
        return {}
    losses, below = np.zeros(len(quantiles)), np.zeros(len(quantiles))
    total = 0.0
    for part, w in _chunks(len(label), weight):
        y = label[part].astype(np.float64)
        for i, q in enumerate(quantiles):
            gap = y - columns[part, i]
            losses[i] += _dot(np.maximum(q * gap, (q - 1) * gap), w)
            below[i] += _dot((gap <= 0).astype(np.float64), w)
        total += _total(len(y), w)
    metrics: Metrics = {"pinball": float(losses.mean()) / total}
    for i, q in enumerate(quantiles):
        metrics |= {f"pinball_{q:g}": float(losses[i]) / total, f"below_{q:g}": float(below[i]) / total}
    return metrics


def _one_against_rest(label: Array, prediction: Array, weight: Array | None) -> Metrics:
    """Means of AUC and average precision over the classes for which they are defined."""
    ranked = [rank(prediction[:, k], label == k, weight) for k in range(prediction.shape[1])]
    known = [result for result in ranked if result is not None]
    if not known:
        return {}
    return {
        "auc": sum(result.auc for result in known) / len(known),
        "average_precision": sum(result.average_precision for result in known) / len(known),
    }


def _evaluate_crisp(label: Array, prediction: Array, weight: Array | None) -> Metrics:
    """Accuracy and confusion of class indexes."""
    y, guess = label.astype(np.int64), prediction.astype(np.int64)
    classes = int(max(y.max(), guess.max())) + 1
    right = (y == guess).astype(np.float64)
    metrics: Metrics = {"accuracy": _dot(right, weight) / _total(len(y), weight)}
    if classes <= MOST_CLASSES:
        table = np.bincount(classes * y + guess, weights=weight, minlength=classes * classes).astype(np.float64)
        metrics["confusion"] = table.reshape(classes, classes).tolist()
    return metrics


def _chunks(rows: int, weight: Array | None) -> Iterator[tuple[slice, Floats | None]]:
    """Slices of the rows with their weights as float64: only one chunk is copied at a time."""
    for start in range(0, rows, CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        yield part, None if weight is None else weight[part].astype(np.float64)


def _dot(values: Floats, weight: Array | None) -> float:
    return float(values.sum()) if weight is None else float(np.dot(values, weight))


def _total(rows: int, weight: Array | None) -> float:
    return float(rows) if weight is None else float(weight.sum(dtype=np.float64))
