"""Checks the numbers that each objective and metric takes as labels: XGBoost's own conditions, checked before anything
runs.
"""

from typing import NoReturn

import numpy as np

from pipeline.config.job import Training
from pipeline.config.metric_registry import METRICS
from pipeline.data.schema.target import Target
from pipeline.data.schema.target_survey import LabelSurvey
from pipeline.errors import DataError

FLOAT32_MAX = float(np.finfo(np.float32).max)
_MAX_RELEVANCE = 31  # XGBoost's limit for NDCG with exponential gain
# XGBoost's own conditions on labels (objective/*.cu), lowest value, whether it is allowed.
_LOWEST: dict[str, tuple[float, bool]] = {
    "count:poisson": (0, True),
    "reg:gamma": (0, False),
    "reg:tweedie": (0, True),
    "reg:squaredlogerror": (-1, False),
    "reg:logistic": (0, True),
    "rank:ndcg": (0, True),
    "rank:map": (0, True),
    "rank:pairwise": (0, True),
}
_HIGHEST = {"reg:logistic": 1.0, "rank:map": 1.0}


def check_numbers(name: str, objective: str, training: Training, labels: LabelSurvey) -> None:
    """DataError where regression or ranking cannot use the values."""
    if labels.kind == "text":
        refuse(
            name,
            f"is text, and {objective} needs numbers: leave training.objective at auto, or derive a number from it",
        )
    low, high = _range(labels)
    if low is None or high is None:
        return
    _check_range(name, objective, training, labels)
    if np.float32(low) == np.float32(high):
        refuse(
            name,
            "has values that float32, in which models are trained, cannot distinguish: subtract a number close to them "
            "under data.derive",
        )


def check_validation_labels(name: str, objective: str, training: Training, labels: LabelSurvey | None) -> None:
    """DataError where a validation source has numbers as its target that the training source must not have."""
    if (
        labels is not None
        and labels.kind not in ("text", "other")
        and objective.startswith(("reg:", "count:", "rank:"))
    ):
        _check_range(f"{name} of the validation source", objective, training, labels)


def _range(labels: LabelSurvey) -> tuple[float | None, float | None]:
    return (0.0, 1.0) if labels.kind == "bool" else (labels.minimum, labels.maximum)


def _check_range(name: str, objective: str, training: Training, labels: LabelSurvey) -> None:
    low, high = _range(labels)
    if low is None or high is None:
        return
    if max(-low, high) > FLOAT32_MAX:
        refuse(name, "holds numbers beyond float32 (3.4e38): derive a smaller number from it")
    lowest, allowed = _LOWEST.get(objective, (-np.inf, True))
    if low < lowest or (low == lowest and not allowed):
        refuse(
            name,
            f"holds values {'<' if allowed else '<='} {lowest:g}, and {objective} needs values {'>=' if allowed else '>'} {lowest:g}",
        )
    if high > _HIGHEST.get(objective, np.inf):
        refuse(name, f"holds values > {_HIGHEST[objective]:g}, and {objective} needs values <= {_HIGHEST[objective]:g}")
    if objective.startswith("rank:"):
        _check_grades(name, objective, training, labels, high)


def _check_grades(name: str, objective: str, training: Training, labels: LabelSurvey, high: float) -> None:
    """NDCG with exponential gain takes whole grades up to 31, MAP and precision 0 and 1."""
    asked = [metric for metric in training.metrics if METRICS[metric.partition("@")[0]].two_grades]
    whole = _whole(labels)
    if (asked or objective == "rank:map") and not (whole and high <= 1):
        what = objective if objective == "rank:map" else asked[0]
        refuse(name, f"holds grades other than 0 and 1, and {what} takes no others: choose rank:ndcg and ndcg")
    gain = training.params.get("ndcg_exp_gain")
    exponential = gain not in (False, 0, "0", "false") and (objective == "rank:ndcg" or gain is not None)
    if not exponential or objective == "rank:map":
        return
    hint = f"{objective} takes whole grades up to {_MAX_RELEVANCE}: set training.params.ndcg_exp_gain = false"
    if high > _MAX_RELEVANCE:
        refuse(name, f"holds values > {_MAX_RELEVANCE}, and {hint}")
    if not whole:
        refuse(name, f"holds fractions, and {hint}")


def _whole(labels: LabelSurvey) -> bool:
    """Whether all values are whole numbers; with more distinct values than are counted, floats are assumed to be
    fractions.
    """
    if labels.kind in ("bool", "int"):
        return True
    if labels.kind != "float":
        return False
    return labels.counts is not None and all(float(value).is_integer() for value in labels.counts)


def with_gain(training: Training, target: Target, labels: LabelSurvey) -> Training:
    """The settings with linear gains of NDCG where the labels of rank:pairwise, which takes any grades, are invalid for
    2^grade.

    The trees are the same: for rank:pairwise only the metric of the rounds depends on it.
    """
    if target.objective != "rank:pairwise" or "ndcg_exp_gain" in training.params:
        return training
    if _whole(labels) and (labels.maximum or 0) <= _MAX_RELEVANCE:
        return training
    return training.model_copy(update={"params": {**training.params, "ndcg_exp_gain": False}})


def refuse(name: str, what: str) -> NoReturn:
    """Raises DataError about the target of this name."""
    raise DataError(f"the target {name} {what}")
