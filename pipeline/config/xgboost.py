"""Maps XGBoost's objectives to their kinds and parameters.  Pure: does not import XGBoost.

The table is XGBoost 3.4's; a test compares it with the installed library.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.names import hint
from pipeline.errors import JobError

KINDS: dict[str, str] = {
    "binary:logistic": "binary",
    "binary:logitraw": "binary",
    "binary:hinge": "binary",
    "multi:softprob": "multiclass",
    "multi:softmax": "multiclass",
    "reg:squarederror": "regression",
    "reg:squaredlogerror": "regression",
    "reg:absoluteerror": "regression",
    "reg:pseudohubererror": "regression",
    "reg:quantileerror": "regression",
    "reg:logistic": "regression",
    "reg:gamma": "regression",
    "reg:tweedie": "regression",
    "count:poisson": "regression",
    "rank:ndcg": "ranking",
    "rank:map": "ranking",
    "rank:pairwise": "ranking",
}


BY_QUANTILE = ("reg:absoluteerror", "reg:quantileerror")  # objectives whose intercept is not a mean


@dataclass(frozen=True)
class ModelShape:
    """The features a model is trained on, and its outputs."""

    features: tuple[str, ...]
    classes: int = 0  # of a multi-class target
    monotone: Mapping[str, int] = field(default_factory=dict)  # feature -> -1, 0, 1
    interactions: Sequence[Sequence[str]] = ()  # groups of features
    quantiles: Sequence[float] = ()


def xgboost_params(
    objective: str, shape: ModelShape, intercept: float | Sequence[float], extra: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """XGBoost's parameters for a training, except those that depend on the worker (threads, device).

    JobError where a constraint names an unknown feature.
    """
    params: dict[str, Any] = {
        **extra,
        "objective": objective,
        "tree_method": "hist",
        "seed": seed,
        "seed_per_iteration": True,
        "base_score": intercept if isinstance(intercept, float) else _vector(intercept),
        "validate_parameters": True,
        "disable_default_eval_metric": True,
    }
    if objective.startswith("multi:"):
        params["num_class"] = shape.classes
    if objective == "reg:quantileerror":
        params["quantile_alpha"] = list(shape.quantiles)
    if shape.monotone:
        check_features(shape.monotone, shape.features, "training.monotone")
        params["monotone_constraints"] = "(" + ",".join(str(shape.monotone.get(n, 0)) for n in shape.features) + ")"
    if shape.interactions:
        for group in shape.interactions:
            check_features(group, shape.features, "training.interactions")
        params["interaction_constraints"] = [list(group) for group in shape.interactions]
    return params


def quantiles_of(objective: str, quantiles: Sequence[float]) -> tuple[float, ...]:
    """The quantiles that are predicted, in the order of the outputs; empty for other objectives.

    `quantiles`: training.quantiles.

    >>> quantiles_of("reg:quantileerror", []), quantiles_of("reg:squarederror", [])
    ((0.5,), ())
    """
    return (tuple(quantiles) or (0.5,)) if objective == "reg:quantileerror" else ()


def _vector(intercept: Sequence[float]) -> float | list[float]:
    return float(intercept[0]) if len(intercept) == 1 else [float(value) for value in intercept]


def check_features(names: Iterable[str], features: Sequence[str], where: str) -> None:
    """JobError for a name that is not a feature; `where`: the setting that names it."""
    for name in names:
        if name not in features:
            raise JobError(f"{where}: no feature {name!r}{hint(name, features)}")
