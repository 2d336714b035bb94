"""Lists every metric once: its names, what more of it means, and how it is measured, each round and exactly."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.config.suggestions import suggestion
from pipeline.config.xgboost import KINDS
from pipeline.errors import JobError

_PROBABILITY = ("binary:logistic",)
_BINARY = tuple(name for name, kind in KINDS.items() if kind == "binary")
_MULTICLASS = tuple(name for name, kind in KINDS.items() if kind == "multiclass")
_REGRESSION = tuple(name for name, kind in KINDS.items() if kind == "regression")
_RANKING = tuple(name for name, kind in KINDS.items() if kind == "ranking")
_POSITIVE = ("count:poisson", "reg:gamma", "reg:tweedie")  # objectives whose predictions are above 0

_AT_MOST = r"[1-9]\d{0,8}-?"  # places; XGBoost reads anything that is no number as 0


@dataclass(frozen=True)
class Metric:
    """A metric of the rounds, of the exact evaluation, or of both."""

    name: str  # XGBoost's, if it has it
    title: str = ""  # in reports and on pages; default: the name
    rising: bool = False  # whether more is better
    objectives: tuple[str, ...] = ()  # for which it is measured each round: for others XGBoost's numbers mean nothing
    per_round: Literal["xgboost", "counts"] = "xgboost"  # counts: of scores, because XGBoost's depends on the layout
    exact: str = ""  # its name in the exact evaluation, if that has it under another (`pipeline.metrics.exact`)
    parameter: str = r"(?!)"  # regular expression of what may follow the @; default: nothing
    example: str = ""  # with a parameter
    two_grades: bool = False  # whether it takes labels 0 and 1 only


REGISTRY: tuple[Metric, ...] = (
    Metric("rmse", "RMSE", objectives=(*_PROBABILITY, *_REGRESSION)),
    Metric("rmsle", objectives=_REGRESSION),
    Metric("mae", "MAE", objectives=(*_PROBABILITY, *_REGRESSION)),
    Metric("mape", objectives=_REGRESSION),
    Metric("mphe", objectives=_REGRESSION),
    Metric("logloss", "log loss", objectives=(*_PROBABILITY, "reg:logistic")),
    Metric("error", "error rate", objectives=(*_PROBABILITY, "binary:hinge"), parameter=r"0?\.\d+|[01]", example="error@0.7"),
    Metric("auc", "AUC", rising=True, objectives=_BINARY, per_round="counts"),  # of several classes or queries: none
    Metric("aucpr", "area under precision-recall", rising=True, objectives=_BINARY, per_round="counts", exact="average_precision"),
    Metric("merror", "error rate", objectives=_MULTICLASS),
    Metric("mlogloss", "log loss", objectives=_MULTICLASS, exact="logloss"),
    Metric("ndcg", "NDCG", rising=True, objectives=_RANKING, parameter=_AT_MOST, example="ndcg@10"),
    Metric("map", "MAP", rising=True, objectives=_RANKING, parameter=_AT_MOST, example="map@10", two_grades=True),
    Metric("pre", rising=True, objectives=_RANKING, parameter=_AT_MOST, example="pre@10", two_grades=True),
    Metric("quantile", objectives=("reg:quantileerror",)),
    Metric("poisson-nloglik", objectives=_POSITIVE),
    Metric("gamma-nloglik", objectives=("reg:gamma",)),
    Metric("gamma-deviance", objectives=("reg:gamma",)),
    Metric("tweedie-nloglik", objectives=_POSITIVE, parameter=r"1(\.\d+)?", example="tweedie-nloglik@1.5"),
    # Of the exact evaluation only.
    Metric("average_precision", "average precision", rising=True),
    Metric("accuracy", "accuracy", rising=True),
    Metric("brier", "Brier score"),
    Metric("r2", "R²", rising=True),
)  # fmt: skip
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in REGISTRY}
OF_ROUNDS: Mapping[str, Metric] = {metric.name: metric for metric in REGISTRY if metric.objectives}
BY_COUNTS = frozenset(metric.name for metric in REGISTRY if metric.per_round == "counts")

HEADLINES: Mapping[str, tuple[str, ...]] = {
    "binary": ("auc", "average_precision", "logloss", "accuracy"),
    "multiclass": ("accuracy", "logloss", "auc", "average_precision"),
    "regression": ("rmse", "mae", "r2", "pinball"),
    "ranking": ("ndcg@10", "ndcg@5", "ndcg", "map"),
}
"""Exact metrics on a report's cards, the most telling first, by the kind of target."""

DEFAULTS: Mapping[str, tuple[str, ...]] = {
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

TWEEDIE_POWER = 1.5  # XGBoost's default of tweedie_variance_power


def check_metrics(metrics: Sequence[str], objective: str) -> None:
    """JobError for an unknown metric, or one that is meaningless for the objective ("auto": not known yet)."""
    for metric in metrics:
        name, at, parameter = metric.partition("@")
        known = OF_ROUNDS.get(name)
        if known is None:
            raise JobError(f"training.metrics: unknown metric {metric!r}{suggestion(metric, sorted(OF_ROUNDS))}")
        if at and not re.fullmatch(known.parameter, parameter):
            raise JobError(f"training.metrics: {metric!r}: expected {known.example or name}")
        if objective != "auto" and objective not in known.objectives:
            fitting = sorted(other.name for other in OF_ROUNDS.values() if objective in other.objectives)
            raise JobError(
                f"training.metrics: {metric} is for {_listed(known.objectives)}, not for {objective}; "
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
        f"{metric}@{power}" if metric == "tweedie-nloglik" else metric for metric in tuple(asked) or DEFAULTS[objective]
    )


def rising(metric: str) -> bool:
    """Whether a larger value of the metric is better."""
    name = metric.partition("@")[0]
    return name in METRICS and METRICS[name].rising


def title_of(metric: str) -> str:
    """The display name of a metric.

    >>> title_of("ndcg@10"), title_of("below_0.9"), title_of("error_p05")
    ('NDCG@10', 'share at or below (q = 0.9)', 'error, 5 % quantile')
    """
    name, at, parameter = metric.partition("@")
    if name.startswith(("pinball_", "below_")):
        kind, _, quantile = name.partition("_")
        return f"{'pinball loss' if kind == 'pinball' else 'share at or below'} (q = {quantile})"
    if name.startswith("error_p"):
        return f"error, {int(name.removeprefix('error_p'))} % quantile"
    known = METRICS.get(name)
    return (known.title if known and known.title else name) + at + parameter


def exact_name(metric: str) -> str:
    """The name of a metric of the rounds in the exact evaluation.

    >>> exact_name("mlogloss"), exact_name("rmse")
    ('logloss', 'rmse')
    """
    known = METRICS.get(metric)
    return known.exact if known and known.exact else metric
