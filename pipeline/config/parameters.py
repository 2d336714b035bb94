"""Checks XGBoost's parameters under training.params: known ones, those set elsewhere, those without effect for an
objective.

Pure: no XGBoost here.  The tables are XGBoost 3.4's; a test compares them with the installed library.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.config.metric_registry import check_metrics
from pipeline.config.suggestions import suggestion
from pipeline.config.xgboost import KINDS
from pipeline.errors import JobError

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
    **{
        name: f"training.{name}"
        for name in ("rounds", "early_stopping", "row_sample", "metrics", "quantiles", "monotone")
    },
    "process_type": "a model is always trained from its first tree",
    "updater": "training.params.tree_method",
    "refresh_leaf": "a model is always trained from its first tree",
}  # XGBoost parameters that are set elsewhere, and where

ALIASES: tuple[tuple[str, str], ...] = (
    ("eta", "learning_rate"),
    ("gamma", "min_split_loss"),
    ("lambda", "reg_lambda"),
    ("alpha", "reg_alpha"),
)  # two names of one parameter: if both are set, XGBoost uses the one it reads last


QUANTILE_OBJECTIVE = "reg:quantileerror"  # the one that training.quantiles are for


@dataclass(frozen=True)
class Parameter:
    """An XGBoost parameter that is passed through, its default and its restrictions."""

    # XGBoost's (`with_defaults` has ours); None: it depends on objective, device or rows, or this is a second name
    default: Any = None
    # With other values XGBoost sketches, samples, draws pairs or learns biases worker by worker.
    values: tuple[Any, ...] = ()  # that leave the model independent of the layout; empty: all do
    objectives: tuple[str, ...] = ()  # for other objectives XGBoost ignores it silently; empty: for all
    booster: str = ""  # the same by booster; empty: for all


_ANY = Parameter()
_RANKING = Parameter(objectives=tuple(name for name, kind in KINDS.items() if kind == "ranking"))
_DART = Parameter(booster="dart")

PARAMETERS: dict[str, Parameter] = {
    "booster": Parameter("gbtree", values=("gbtree", "dart")),
    "learning_rate": _ANY,
    "eta": Parameter(0.3),
    "gamma": Parameter(0),
    "min_split_loss": _ANY,
    "max_depth": Parameter(6),
    "min_child_weight": Parameter(1),
    "max_delta_step": _ANY,
    "colsample_bytree": Parameter(1),
    "colsample_bylevel": Parameter(1),
    "colsample_bynode": Parameter(1),
    "lambda": Parameter(1),
    "reg_lambda": _ANY,
    "alpha": Parameter(0),
    "reg_alpha": _ANY,
    "tree_method": Parameter("hist", values=("hist",)),
    "scale_pos_weight": Parameter(1, objectives=("binary:logistic", "binary:logitraw", "binary:hinge", "reg:logistic")),
    "grow_policy": Parameter("depthwise"),
    "max_leaves": Parameter(0),
    "num_parallel_tree": Parameter(1),
    "multi_strategy": Parameter("one_output_per_tree"),
    "max_cached_hist_node": _ANY,
    "max_cat_to_onehot": Parameter(4),
    "max_cat_threshold": _ANY,  # preprocess/category_splits.py
    "sampling_method": Parameter("uniform", values=("uniform",)),
    "huber_slope": Parameter(1, objectives=("reg:pseudohubererror",)),
    "tweedie_variance_power": Parameter(1.5, objectives=("reg:tweedie",)),
    "lambdarank_pair_method": replace(_RANKING, values=("topk",), default="topk"),
    "lambdarank_num_pair_per_sample": _RANKING,
    "lambdarank_normalization": replace(_RANKING, default=True),
    "lambdarank_score_normalization": replace(_RANKING, default=True),
    "lambdarank_unbiased": replace(
        _RANKING, values=(False,), default=False
    ),  # nor could it be resumed: XGBoost refuses to
    "lambdarank_bias_norm": replace(_RANKING, default=1),
    "ndcg_exp_gain": replace(_RANKING, default=True),
    "sample_type": replace(_DART, default="uniform"),
    "normalize_type": replace(_DART, default="tree"),
    "rate_drop": replace(_DART, default=0),
    "one_drop": replace(_DART, default=False),
    "skip_drop": replace(_DART, default=0),
    "sparse_threshold": Parameter(0.2),
    "debug_synchronize": Parameter(False),
    "fail_on_invalid_gpu_id": Parameter(False),
}


# Ours, in place of XGBoost's, with training.rounds = 150: chosen by `python -m benchmarks.defaults` on one half of its sets.
LEARNING_RATE = 0.1
COLUMNS_OF_A_NODE = 0.5  # share of the features that a split is chosen from; more of them overfit small data
_RATES = frozenset({"eta", "learning_rate"})
_BY_COLUMNS = frozenset({"colsample_bytree", "colsample_bylevel", "colsample_bynode"})


def with_defaults(params: Mapping[str, Any]) -> dict[str, Any]:
    """XGBoost's parameters, with our defaults for those that `params` does not name.

    Who samples columns in one way gets no other way.

    >>> with_defaults({})
    {'eta': 0.1, 'colsample_bynode': 0.5}
    >>> with_defaults({"learning_rate": 0.3, "colsample_bytree": 0.8})
    {'learning_rate': 0.3, 'colsample_bytree': 0.8}
    """
    rate = {} if _RATES & params.keys() else {"eta": LEARNING_RATE}
    columns = {} if _BY_COLUMNS & params.keys() else {"colsample_bynode": COLUMNS_OF_A_NODE}
    return {**rate, **columns, **params}


def resolved_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters in force under training.params `params`: under the first of their names, with the defaults.

    >>> resolved_params({"learning_rate": 0.3})["eta"], resolved_params({})["eta"]
    (0.3, 0.1)
    """
    names = {other: one for one, other in ALIASES}
    defaults = {name: one.default for name, one in PARAMETERS.items() if one.default is not None}
    return {**defaults, **{names.get(name, name): value for name, value in with_defaults(params).items()}}


def check_params(params: Mapping[str, Any], metrics: Sequence[str] = (), objective: str = "auto") -> None:
    """JobError for a parameter, metric or objective that XGBoost does not know, or that is set elsewhere or twice."""
    if objective != "auto" and objective not in KINDS:
        raise JobError(f"training.objective = {objective!r}: unknown objective{suggestion(objective, sorted(KINDS))}")
    for name, value in params.items():
        _check_param(name, value)
    for one, other in ALIASES:
        if one in params and other in params:
            raise JobError(f"training.params: {one} and {other} are two names of one parameter: give one of them")
    for name in params:
        if (booster := PARAMETERS[name].booster) and params.get("booster") != booster:
            raise JobError(f'training.params.{name} is for booster = "{booster}" and would be ignored')
    if objective != "auto":
        check_fitting(params, objective)
    check_metrics(metrics, objective)


def check_fitting(params: Mapping[str, Any], objective: str) -> None:
    """JobError for a parameter that XGBoost would ignore for the objective."""
    for name in params:
        objectives = PARAMETERS[name].objectives
        if objectives and objective not in objectives:
            raise JobError(
                f"training.params.{name} is for {', '.join(objectives)}: for {objective} it would be ignored"
            )


def check_quantiles(quantiles: Sequence[float], objective: str) -> None:
    """JobError for quantiles that the objective does not predict; "auto" never chooses the one that does."""
    if quantiles and objective != QUANTILE_OBJECTIVE:
        raise JobError(
            f"training.quantiles = {list(quantiles)} is for training.objective = {QUANTILE_OBJECTIVE!r}: for {objective!r} "
            "it would be ignored"
        )


def _check_param(name: str, value: Any) -> None:
    if name in OWN:
        raise JobError(f"training.params.{name} cannot be set here: {OWN[name]}")
    if name not in PARAMETERS:
        raise JobError(
            f"training.params.{name}: unknown XGBoost parameter{suggestion(name, sorted([*PARAMETERS, *OWN]))}"
        )
    values = PARAMETERS[name].values
    if values and value not in values:
        allowed = ", ".join(str(known).lower() for known in values)
        raise JobError(
            f"training.params.{name} = {json.dumps(value, default=str)}: allowed: {allowed}; "
            "with other values the model would depend on the number of workers"
        )
