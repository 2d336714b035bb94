"""What XGBoost knows: objectives, the metrics that go with them, and parameters.  Pure: no XGBoost here.

The tables are XGBoost 3.4's; a test compares them with the installed library.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

METRICS: dict[str, tuple[str, ...]] = {
    "binary:logistic": ("auc", "logloss"),
    "binary:logitraw": ("auc", "logloss"),
    "binary:hinge": ("error",),
    "multi:softprob": ("merror", "mlogloss"),
    "multi:softmax": ("merror",),
    "reg:squarederror": ("rmse",),
    "reg:squaredlogerror": ("rmsle",),
    "reg:absoluteerror": ("mae",),
    "reg:pseudohubererror": ("mphe",),
    "reg:quantileerror": ("quantile",),
    "reg:logistic": ("rmse",),
    "reg:gamma": ("gamma-nloglik",),
    "reg:tweedie": ("rmse",),
    "count:poisson": ("poisson-nloglik",),
    "rank:ndcg": ("ndcg",),
    "rank:map": ("map",),
    "rank:pairwise": ("ndcg",),
}  # the last one decides early stopping
"""Metrics of each round, by objective."""

KNOWN_METRICS = frozenset(
    [
        "rmse",
        "rmsle",
        "mae",
        "mape",
        "mphe",
        "logloss",
        "error",
        "merror",
        "mlogloss",
        "auc",
        "aucpr",
        "ndcg",
        "map",
        "pre",
        "quantile",
        "poisson-nloglik",
        "gamma-nloglik",
        "gamma-deviance",
        "tweedie-nloglik",
    ]
)
RISING = frozenset(("auc", "aucpr", "ndcg", "map", "pre"))  # metrics of which more is better

METRIC_KINDS: dict[str, tuple[str, ...]] = {
    "auc": ("binary",),
    "aucpr": ("binary",),
    "error": ("binary", "regression"),
    "logloss": ("binary", "regression"),
    "merror": ("multiclass",),
    "mlogloss": ("multiclass",),
    "ndcg": ("ranking",),
    "map": ("ranking",),
    "pre": ("ranking",),
}  # metrics that are for some kinds of targets only; XGBoost's own auc of several classes depends on the layout

OWN: dict[str, str] = {
    "objective": "training.objective",
    "num_class": "the target's classes",
    "base_score": "the intercept is computed from the training rows",
    "eval_metric": "training.metrics",
    "max_bin": "training.max_bin",
    "seed": "training.seed",
    "random_state": "training.seed",
    "seed_per_iteration": "always true",
    "nthread": "cluster.threads",
    "n_jobs": "cluster.threads",
    "device": "cluster.device",
    "monotone_constraints": "training.monotone",
    "interaction_constraints": "training.interactions",
    "quantile_alpha": "training.quantiles",
    "subsample": "training.row_sample (the same rows for any number of workers)",
    "verbosity": "--debug",
    "validate_parameters": "always true",
    "enable_categorical": "always true",
    "num_feature": "the features",
    "disable_default_eval_metric": "training.metrics",
    "num_boost_round": "training.rounds",
    "n_estimators": "training.rounds",
    "early_stopping_rounds": "training.early_stopping",
    "process_type": "a model is always trained anew",
    "updater": "training.params.tree_method",
    "refresh_leaf": "a model is always trained anew",
}  # XGBoost parameters that are set elsewhere, and where

PARAMETERS = frozenset(
    [
        "booster",
        "learning_rate",
        "eta",
        "gamma",
        "min_split_loss",
        "max_depth",
        "min_child_weight",
        "max_delta_step",
        "colsample_bytree",
        "colsample_bylevel",
        "colsample_bynode",
        "lambda",
        "reg_lambda",
        "alpha",
        "reg_alpha",
        "tree_method",
        "scale_pos_weight",
        "grow_policy",
        "max_leaves",
        "num_parallel_tree",
        "multi_strategy",
        "max_cached_hist_node",
        "max_cat_to_onehot",
        "max_cat_threshold",
        "sampling_method",
        "huber_slope",
        "tweedie_variance_power",
        "lambdarank_pair_method",
        "lambdarank_num_pair_per_sample",
        "lambdarank_normalization",
        "lambdarank_score_normalization",
        "lambdarank_unbiased",
        "lambdarank_bias_norm",
        "ndcg_exp_gain",
        "sample_type",
        "normalize_type",
        "rate_drop",
        "one_drop",
        "skip_drop",
        "sparse_threshold",
        "debug_synchronize",
        "fail_on_invalid_gpu_id",
    ]
)
"""XGBoost parameters that pass through."""

FIXED: dict[str, tuple[Any, ...]] = {
    "tree_method": ("hist",),
    "booster": ("gbtree", "dart"),
    "sampling_method": ("uniform",),
    "lambdarank_pair_method": ("topk",),
    "lambdarank_unbiased": (False,),  # nor could such a training be resumed: XGBoost refuses to
}  # values with which the layout leaves no trace: the others sketch, sample, draw pairs or learn biases worker by worker


def check_params(params: Mapping[str, Any], metrics: Sequence[str] = (), objective: str = "auto") -> None:
    """JobError for a parameter, metric or objective that XGBoost does not know, or that is set elsewhere."""
    if objective != "auto" and objective not in KINDS:
        raise JobError(f"training.objective = {objective!r}: unknown objective{_nearest(objective, KINDS)}")
    for name, value in params.items():
        if name in OWN:
            raise JobError(f"training.params.{name} is not set here: {OWN[name]}")
        if name not in PARAMETERS:
            known = [*PARAMETERS, *OWN]
            raise JobError(f"training.params.{name}: unknown XGBoost parameter{_nearest(name, known)}")
        if name in FIXED and value not in FIXED[name]:
            allowed = ", ".join(str(known).lower() for known in FIXED[name])
            raise JobError(
                f"training.params.{name} = {json.dumps(value, default=str)}: allowed: {allowed}; "
                "with other values the model would depend on the number of workers"
            )
    for metric in metrics:
        if metric.partition("@")[0] not in KNOWN_METRICS:
            raise JobError(f"training.metrics: unknown metric {metric!r}{_nearest(metric, KNOWN_METRICS)}")
    if objective != "auto":
        check_metrics(metrics, objective)


def check_metrics(metrics: Sequence[str], objective: str) -> None:
    """JobError for a metric that cannot be had for the objective."""
    for metric in metrics:
        kinds = METRIC_KINDS.get(metric.partition("@")[0])
        if kinds and KINDS[objective] not in kinds:
            raise JobError(f"training.metrics: {metric} is for {' and '.join(kinds)} targets, not for {objective}")


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(known))}"


def rising(metric: str) -> bool:
    """Whether more is better."""
    return metric.partition("@")[0] in RISING


def default_metrics(objective: str) -> tuple[str, ...]:
    """The metrics of each round; the last one decides early stopping."""
    return METRICS[objective]


BY_QUANTILE = ("reg:absoluteerror", "reg:quantileerror")  # objectives whose intercept is no mean


@dataclass(frozen=True)
class Labels:
    """What the intercept is computed from, over all training rows whatever worker has them."""

    mean: float  # weighted
    values: NDArray[np.float32] | None = None  # (rows,) every label; needed where BY_QUANTILE
    weights: NDArray[np.float32] | None = None  # (rows,) or all the same


def base_score(objective: str, labels: Labels, quantiles: Sequence[float] = ()) -> float | tuple[float, ...]:
    """The intercept that XGBoost is given, in the space of its predictions; one for each quantile.

    Means and quantiles are exact, those of all training rows.
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
    """The smallest value below or at which lies a share `alpha` of the weight, whatever the order of the rows."""
    assert values is not None  # an objective of BY_QUANTILE
    order = np.argsort(values) if weight is None else np.lexsort((weight, values))
    mass = np.ones(len(values)) if weight is None else weight[order].astype(np.float64)
    below = np.cumsum(mass)
    place = int(np.searchsorted(below, alpha * below[-1]))
    return float(values[order][min(place, len(values) - 1)])


@dataclass(frozen=True)
class Shape:
    """The features a model is trained on, and its outputs."""

    features: tuple[str, ...]
    classes: int = 0  # of a multi-class target
    monotone: Mapping[str, int] = field(default_factory=dict)  # feature -> -1, 0, 1
    interactions: Sequence[Sequence[str]] = ()  # groups of features
    quantiles: Sequence[float] = ()


def xgboost_params(
    objective: str, shape: Shape, intercept: float | Sequence[float], extra: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """XGBoost's parameters for a training, but for what depends on the worker (threads, device).

    JobError where a constraint names a feature that there is not.
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
        _known(shape.monotone, shape.features, "training.monotone")
        params["monotone_constraints"] = "(" + ",".join(str(shape.monotone.get(n, 0)) for n in shape.features) + ")"
    if shape.interactions:
        for group in shape.interactions:
            _known(group, shape.features, "training.interactions")
        params["interaction_constraints"] = [list(group) for group in shape.interactions]
    return params


def _vector(intercept: Sequence[float]) -> float | list[float]:
    return float(intercept[0]) if len(intercept) == 1 else [float(value) for value in intercept]


def _known(names: Any, features: Sequence[str], where: str) -> None:
    for name in names:
        if name not in features:
            raise JobError(f"{where}: no feature {name!r}{_nearest(name, features)}")
