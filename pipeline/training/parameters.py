"""XGBoost's parameters under training.params: which there are, which are set elsewhere, which mean nothing for an objective.

Pure: no XGBoost here.  The tables are XGBoost 3.4's; a test compares them with the installed library.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import JobError
from pipeline.training.metric_names import check_metrics
from pipeline.training.objective import KINDS, nearest

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

ALIASES: tuple[tuple[str, str], ...] = (
    ("eta", "learning_rate"),
    ("gamma", "min_split_loss"),
    ("lambda", "reg_lambda"),
    ("alpha", "reg_alpha"),
)  # two names of one parameter: of both XGBoost takes the one it happens to read last

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

OF_OBJECTIVES: dict[str, tuple[str, ...]] = {
    "scale_pos_weight": ("binary:logistic", "binary:logitraw", "binary:hinge", "reg:logistic"),
    "huber_slope": ("reg:pseudohubererror",),
    "tweedie_variance_power": ("reg:tweedie",),
    **dict.fromkeys(
        (
            "lambdarank_pair_method",
            "lambdarank_num_pair_per_sample",
            "lambdarank_normalization",
            "lambdarank_score_normalization",
            "lambdarank_unbiased",
            "lambdarank_bias_norm",
            "ndcg_exp_gain",
        ),
        tuple(name for name, kind in KINDS.items() if kind == "ranking"),
    ),
}  # parameters that XGBoost ignores without a word for other objectives
OF_DART = ("sample_type", "normalize_type", "rate_drop", "one_drop", "skip_drop")  # likewise with booster = "gbtree"


def check_params(params: Mapping[str, Any], metrics: Sequence[str] = (), objective: str = "auto") -> None:
    """JobError for a parameter, metric or objective that XGBoost does not know, or that is set elsewhere or twice."""
    if objective != "auto" and objective not in KINDS:
        raise JobError(f"training.objective = {objective!r}: unknown objective{nearest(objective, KINDS)}")
    for name, value in params.items():
        _check_param(name, value)
    for one, other in ALIASES:
        if one in params and other in params:
            raise JobError(f"training.params: {one} and {other} are two names of one parameter: give one of them")
    for name in OF_DART:
        if name in params and params.get("booster") != "dart":
            raise JobError(f'training.params.{name} is for booster = "dart" and would be ignored')
    if objective != "auto":
        check_fitting(params, objective)
    check_metrics(metrics, objective)


def check_fitting(params: Mapping[str, Any], objective: str) -> None:
    """JobError for a parameter that XGBoost would ignore for the objective."""
    for name, objectives in OF_OBJECTIVES.items():
        if name in params and objective not in objectives:
            raise JobError(
                f"training.params.{name} is for {', '.join(objectives)}: for {objective} it would be ignored"
            )


def _check_param(name: str, value: Any) -> None:
    if name in OWN:
        raise JobError(f"training.params.{name} is not set here: {OWN[name]}")
    if name not in PARAMETERS:
        raise JobError(f"training.params.{name}: unknown XGBoost parameter{nearest(name, [*PARAMETERS, *OWN])}")
    if name in FIXED and value not in FIXED[name]:
        allowed = ", ".join(str(known).lower() for known in FIXED[name])
        raise JobError(
            f"training.params.{name} = {json.dumps(value, default=str)}: allowed: {allowed}; "
            "with other values the model would depend on the number of workers"
        )
