"""Lists the metrics of each round by XGBoost's names: for which objectives they are valid, and the defaults."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.suggestions import suggestion
from pipeline.config.xgboost import KINDS
from pipeline.errors import JobError

_PROBABILITY = ("binary:logistic",)
_BINARY = tuple(name for name, kind in KINDS.items() if kind == "binary")
_MULTICLASS = tuple(name for name, kind in KINDS.items() if kind == "multiclass")
_REGRESSION = tuple(name for name, kind in KINDS.items() if kind == "regression")
_RANKING = tuple(name for name, kind in KINDS.items() if kind == "ranking")
_POSITIVE = ("count:poisson", "reg:gamma", "reg:tweedie")  # objectives whose predictions are above 0

METRIC_OBJECTIVES: dict[str, tuple[str, ...]] = {
    "rmse": (*_PROBABILITY, *_REGRESSION),
    "rmsle": _REGRESSION,
    "mae": (*_PROBABILITY, *_REGRESSION),
    "mape": _REGRESSION,
    "mphe": _REGRESSION,
    "logloss": (*_PROBABILITY, "reg:logistic"),
    "error": (*_PROBABILITY, "binary:hinge"),
    "auc": _BINARY,  # XGBoost's own auc, of several classes or of queries, depends on the layout
    "aucpr": _BINARY,
    "merror": _MULTICLASS,
    "mlogloss": _MULTICLASS,
    "ndcg": _RANKING,
    "map": _RANKING,
    "pre": _RANKING,
    "quantile": ("reg:quantileerror",),
    "poisson-nloglik": _POSITIVE,
    "gamma-nloglik": ("reg:gamma",),
    "gamma-deviance": ("reg:gamma",),
    "tweedie-nloglik": _POSITIVE,
}
"""The objectives for which each metric is valid: for others XGBoost computes meaningless numbers."""

KNOWN_METRICS = frozenset(METRIC_OBJECTIVES)
RISING = frozenset(("auc", "aucpr", "ndcg", "map", "pre"))  # metrics of which more is better

METRICS: dict[str, tuple[str, ...]] = {
    "binary:logistic": ("auc", "logloss"),
    "binary:logitraw": ("auc",),
    "binary:hinge": ("error",),
    "multi:softprob": ("merror", "mlogloss"),
    "multi:softmax": ("merror",),
    "reg:squarederror": ("rmse",),
    "reg:squaredlogerror": ("rmsle",),
    "reg:absoluteerror": ("mae",),
    "reg:pseudohubererror": ("mphe",),
    "reg:quantileerror": ("quantile",),
    "reg:logistic": ("rmse", "logloss"),
    "reg:gamma": ("gamma-nloglik",),
    "reg:tweedie": ("rmse", "tweedie-nloglik"),
    "count:poisson": ("poisson-nloglik",),
    "rank:ndcg": ("ndcg",),
    "rank:map": ("map",),
    "rank:pairwise": ("ndcg",),
}
"""Metrics of each round, by objective; the last one, the objective's own loss, decides early stopping."""

_AT_MOST = r"[1-9]\d{0,8}-?"  # places; XGBoost reads anything that is no number as 0
_PARAMETERS = {
    **dict.fromkeys(("ndcg", "map", "pre"), _AT_MOST),
    "error": r"0?\.\d+|[01]",
    "tweedie-nloglik": r"1(\.\d+)?",
}  # what may follow the @
_EXAMPLES = {
    "ndcg": "ndcg@10",
    "map": "map@10",
    "pre": "pre@10",
    "error": "error@0.7",
    "tweedie-nloglik": "tweedie-nloglik@1.5",
}

TWEEDIE_POWER = 1.5  # XGBoost's default of tweedie_variance_power


def check_metrics(metrics: Sequence[str], objective: str) -> None:
    """JobError for an unknown metric, or one that is meaningless for the objective ("auto": not known yet)."""
    for metric in metrics:
        name, at, parameter = metric.partition("@")
        if name not in KNOWN_METRICS:
            raise JobError(f"training.metrics: unknown metric {metric!r}{suggestion(metric, sorted(KNOWN_METRICS))}")
        if at and not re.fullmatch(_PARAMETERS.get(name, r"(?!)"), parameter):
            raise JobError(f"training.metrics: {metric!r}: expected {_EXAMPLES.get(name, name)}")
        if objective != "auto" and objective not in METRIC_OBJECTIVES[name]:
            fitting = sorted(known for known, objectives in METRIC_OBJECTIVES.items() if objective in objectives)
            raise JobError(
                f"training.metrics: {metric} is for {_listed(METRIC_OBJECTIVES[name])}, not for {objective}; "
                f"for it there are {', '.join(fitting)}"
            )


def _listed(objectives: Sequence[str]) -> str:
    kinds = {KINDS[name] for name in objectives}
    whole = all(name in objectives for name, kind in KINDS.items() if kind in kinds)
    return f"{' and '.join(sorted(kinds))} targets" if whole else ", ".join(objectives)


def round_metrics(
    objective: str, asked: Sequence[str] = (), params: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """The metrics of each round, the requested ones or the objective's; the last one decides early stopping.

    >>> round_metrics("reg:tweedie", (), {"tweedie_variance_power": 1.2})
    ('rmse', 'tweedie-nloglik@1.2')
    """
    power = (params or {}).get("tweedie_variance_power", TWEEDIE_POWER)
    return tuple(
        f"{metric}@{power}" if metric == "tweedie-nloglik" else metric for metric in tuple(asked) or METRICS[objective]
    )


def rising(metric: str) -> bool:
    """Whether a larger value of the metric is better."""
    return metric.partition("@")[0] in RISING
