"""Our tables of what XGBoost knows, against the installed XGBoost."""

import json
import warnings
from typing import Any

import numpy as np
import pytest
import xgboost

from pipeline.errors import JobError
from pipeline.training.objective import (
    KINDS,
    KNOWN_METRICS,
    METRICS,
    OWN,
    PARAMETERS,
    Labels,
    Shape,
    base_score,
    check_metrics,
    check_params,
    quantile,
    rising,
    xgboost_params,
)

INTERNAL = {
    "boost_from_average", "name", "num_target", "num_trees", "rng_state", "updater_seq",
}  # fmt: skip


def booster(params: dict[str, Any]) -> xgboost.Booster:
    """One round on tiny data that suits the objective."""
    objective = params["objective"]
    values = np.random.default_rng(0).random((60, 2), dtype=np.float32)
    label = (values[:, 0] > 0.5).astype(np.float32)
    matrix = xgboost.DMatrix(values, label=label + (objective == "reg:gamma"))
    if objective.startswith("rank:"):
        matrix.set_info(group=[30, 30])
    if objective.startswith("multi:"):
        params = {**params, "num_class": 2}
    if objective == "reg:quantileerror":
        params = {**params, "quantile_alpha": [0.5]}
    made = xgboost.Booster({"tree_method": "hist", "validate_parameters": True, **params}, [matrix])
    made.update(matrix, 0)
    return made


def leaves(config: Any) -> set[str]:
    if isinstance(config, list):
        return set().union(*map(leaves, config)) if config else set()
    if not isinstance(config, dict):
        return set()
    return {key for key, value in config.items() if isinstance(value, str)} | set().union(*map(leaves, config.values()))


def test_every_parameter_of_xgboost_is_in_our_tables_and_none_else() -> None:
    seen: set[str] = set()
    for kind in ("gbtree", "dart"):
        for objective in KINDS:
            seen |= leaves(json.loads(booster({"booster": kind, "objective": objective, "verbosity": 0}).save_config()))
    assert seen - PARAMETERS - set(OWN) == INTERNAL
    assert PARAMETERS - seen == set()


@pytest.mark.parametrize("objective", KINDS)
def test_objectives_and_their_metrics_are_known_to_xgboost(objective: str) -> None:
    assert METRICS.keys() == KINDS.keys()
    assert set(METRICS[objective]) <= KNOWN_METRICS
    check_metrics(METRICS[objective], objective)
    booster({"objective": objective, "eval_metric": list(METRICS[objective])})


@pytest.mark.parametrize(
    ("params", "metrics", "message"),
    [
        ({"max_dept": 3}, (), "did you mean max_depth"),
        ({"subsample": 0.5}, (), "training.row_sample"),
        ({"objective": "reg:squarederror"}, (), "training.objective"),
        ({"tree_method": "exact"}, (), "allowed: hist"),
        ({"booster": "gblinear"}, (), "allowed: gbtree, dart"),
        ({"lambdarank_unbiased": True}, (), "lambdarank_unbiased = true: allowed: false; .* number of workers"),
        ({}, ("logglos",), "did you mean logloss"),
        ({}, ("ndcg@5",), "ranking"),
    ],
)
def test_wrong_parameters_are_refused(params: dict[str, Any], metrics: tuple[str, ...], message: str) -> None:
    with pytest.raises(JobError, match=message):
        check_params(params, metrics, "binary:logistic")


def test_unknown_objective_is_refused_with_the_nearest() -> None:
    with pytest.raises(JobError, match="did you mean binary:logistic"):
        check_params({}, (), "binary:logistics")


def test_right_parameters_pass() -> None:
    check_params({"max_depth": 3, "lambda": 2, "booster": "dart"}, ("auc", "error@0.7"), "binary:logistic")
    check_params({"lambdarank_unbiased": False}, (), "rank:ndcg")


def test_constraints_go_by_name() -> None:
    shape = Shape(("a", "b"), monotone={"b": -1}, interactions=[["a", "b"]])
    params = xgboost_params("reg:squarederror", shape, 1.5, {}, 0)
    assert params["monotone_constraints"] == "(0,-1)"
    assert params["interaction_constraints"] == [["a", "b"]]
    with pytest.raises(JobError, match=r"training\.monotone: no feature 'c'"):
        xgboost_params("reg:squarederror", Shape(("a",), monotone={"c": 1}), 0.5, {}, 0)


def test_our_parameters_are_all_used_by_xgboost() -> None:
    for objective in KINDS:
        shape = Shape(("f0", "f1"), classes=2, quantiles=[0.5])
        params = xgboost_params(objective, shape, 0.5, {"max_depth": 2}, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            booster(params)


def test_intercepts() -> None:
    sample = np.arange(1, 101, dtype=np.float32)
    labels = Labels(mean=0.25, values=sample)
    assert base_score("binary:logistic", labels) == 0.25
    assert base_score("reg:absoluteerror", labels) == 50
    assert base_score("reg:quantileerror", labels, [0.1, 0.9]) == (10, 90)
    assert base_score("rank:ndcg", labels) == 0.5
    assert quantile(np.float32([1, 2, 3]), np.float32([0, 0, 5]), 0.1) == 3


def test_which_way_is_better() -> None:
    assert rising("ndcg@10")
    assert not rising("logloss")
