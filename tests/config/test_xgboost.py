"""Our tables of what XGBoost knows, against the installed XGBoost."""

import json
import warnings
from typing import Any

import numpy as np
import pytest
import xgboost

from pipeline.config.job import Job, Training
from pipeline.config.metric_registry import DEFAULTS, OF_ROUNDS, check_metrics, rising, round_metrics
from pipeline.config.parameters import OWN, PARAMETERS, check_params, resolved_params, with_defaults
from pipeline.config.xgboost import KINDS, ModelShape, xgboost_params
from pipeline.errors import JobError
from pipeline.preprocess.constraints import check_constraints
from pipeline.preprocess.features import Category, Levels, Number
from pipeline.preprocess.recipe import Recipe
from pipeline.training.xgboost.trial import try_params

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
    assert seen - PARAMETERS.keys() - set(OWN) == INTERNAL
    assert PARAMETERS.keys() - seen == set()


@pytest.mark.parametrize("objective", KINDS)
def test_objectives_and_their_metrics_are_known_to_xgboost(objective: str) -> None:
    assert DEFAULTS.keys() == KINDS.keys()
    assert set(DEFAULTS[objective]) <= OF_ROUNDS.keys()
    check_metrics(DEFAULTS[objective], objective)
    booster({"objective": objective, "eval_metric": list(round_metrics(objective))})


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
        ({"eta": 0.1, "learning_rate": 0.3}, (), "eta and learning_rate are two names of one parameter"),
        ({"gamma": 1, "min_split_loss": 1}, (), "gamma and min_split_loss"),
        ({"lambda": 1, "reg_lambda": 1}, (), "lambda and reg_lambda"),
        ({"alpha": 1, "reg_alpha": 1}, (), "alpha and reg_alpha"),
        ({"random_state": 1}, (), "training.seed"),
        ({"n_jobs": 1}, (), "cluster.threads"),
        ({"tweedie_variance_power": 1.2}, (), "for reg:tweedie: for binary:logistic it would be ignored"),
        ({"ndcg_exp_gain": False}, (), "would be ignored"),
        ({"rate_drop": 0.1}, (), 'for booster = "dart" and would be ignored'),
        ({}, ("quantile",), "for reg:quantileerror, not for binary:logistic"),
        ({}, ("mlogloss",), "for multiclass targets, not for binary:logistic"),
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


@pytest.mark.parametrize(
    ("objective", "metric"),
    [
        ("reg:squarederror", "logloss"), ("reg:squarederror", "auc"), ("reg:squarederror", "error"),
        ("reg:squarederror", "gamma-nloglik"), ("multi:softprob", "rmse"), ("multi:softprob", "auc"),
        ("rank:ndcg", "rmse"), ("rank:ndcg", "auc"), ("binary:logitraw", "logloss"), ("binary:hinge", "logloss"),
        ("reg:absoluteerror", "quantile"), ("count:poisson", "merror"),
    ],
)  # fmt: skip
def test_a_metric_without_a_meaning_for_the_objective_is_refused_by_name(objective: str, metric: str) -> None:
    with pytest.raises(
        JobError, match=rf"training\.metrics: {metric} is for .*, not for {objective}; for it there are "
    ):
        check_metrics([metric], objective)


@pytest.mark.parametrize("objective", KINDS)
def test_every_metric_that_is_allowed_is_a_number(objective: str) -> None:
    metrics = [metric.name for metric in OF_ROUNDS.values() if objective in metric.objectives]
    of_xgboost = [metric for metric in round_metrics(objective, metrics) if metric not in ("auc", "aucpr")]
    if objective.startswith("reg:") and "quantile" in of_xgboost:
        of_xgboost.remove("mape")  # of a target of zeros
    if not of_xgboost:  # else XGBoost takes its default
        return
    made = booster({"objective": objective, "eval_metric": of_xgboost})
    values = np.random.default_rng(0).random((60, 2), dtype=np.float32)
    label = (values[:, 0] > 0.5).astype(np.float32) + (
        not objective.startswith(("binary", "multi", "rank", "reg:logistic"))
    )
    matrix = xgboost.DMatrix(values, label=label)
    if objective.startswith("rank:"):
        matrix.set_info(group=[30, 30])
    found = [float(part.rpartition(":")[2]) for part in made.eval(matrix).split("\t")[1:]]
    assert len(found) == len(of_xgboost)
    if objective != "reg:logistic":  # MAPE of a share that is 0
        assert np.isfinite(found).all(), dict(zip(of_xgboost, found, strict=True))


@pytest.mark.parametrize("metric", ["ndcg@x", "ndcg@0", "ndcg@", "map@-1", "auc@3", "error@x", "tweedie-nloglik@2.5"])
def test_what_follows_a_metrics_name_is_checked(metric: str) -> None:
    with pytest.raises(JobError, match=rf"training\.metrics: '{metric}': expected "):
        check_metrics([metric], "auto")
    check_metrics(["ndcg@10", "ndcg@5-", "map@3", "error@0.7", "error@.3", "tweedie-nloglik@1.2", "auc"], "auto")


def test_the_own_loss_of_an_objective_decides_early_stopping() -> None:
    assert round_metrics("reg:tweedie")[-1] == "tweedie-nloglik@1.5"
    assert round_metrics("reg:tweedie", (), {"tweedie_variance_power": 1.2})[-1] == "tweedie-nloglik@1.2"
    assert round_metrics("count:poisson")[-1] == "poisson-nloglik"
    assert round_metrics("reg:gamma")[-1] == "gamma-nloglik"
    assert round_metrics("reg:logistic")[-1] == "logloss"
    assert round_metrics("reg:tweedie", ["mae"]) == ("mae",)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"max_depth": "deep"}, "max_depth expect int"),
        ({"max_depth": -1}, "max_depth should be greater equal to 0"),
        ({"eta": -0.1}, "learning_rate should be greater equal to 0"),
        ({"eta": [1, 2]}, "learning_rate expect float"),
        ({"grow_policy": "wide"}, "valid values are"),
        ({"colsample_bytree": 2}, "colsample_bytree exceed bound"),
        ({"num_parallel_tree": 0}, "num_parallel_tree"),
        ({"gamma": True}, "min_split_loss expect float"),
        ({"booster": "dart", "rate_drop": 3}, "rate_drop exceed bound"),
        ({"scale_pos_weight": -2}, "scale_pos_weight"),
    ],
)
def test_a_parameter_that_xgboost_refuses_is_a_users_error_before_data_are_read(
    params: dict[str, Any], says: str
) -> None:
    for objective in ("auto", "binary:logistic"):
        with pytest.raises(JobError, match=says) as error:
            try_params(Training(params=params, objective=objective), objective)
        assert "Stack trace" not in str(error.value)
        assert "/xgboost/" not in str(error.value)


def test_a_metric_that_xgboost_refuses_is_a_users_error() -> None:
    job = Training(objective="reg:quantileerror", quantiles=[0.1, 0.9], metrics=["rmse"])
    with pytest.raises(JobError, match="XGBoost refuses this"):
        try_params(job, "reg:quantileerror")


@pytest.mark.parametrize("objective", [*KINDS, "auto"])
def test_good_parameters_pass_the_trial(objective: str) -> None:
    many = {"max_depth": 30, "num_parallel_tree": 1_000_000, "eta": 0.3, "booster": "dart"}
    try_params(Training(params=many, objective=objective), objective)


FEATURES = Recipe((Number(name="x", column="x"), Category(name="kind", column="kind", levels=Levels(("a", "b")))), {})


@pytest.mark.parametrize(
    ("training", "kind", "says"),
    [
        (Training(monotone={"kind": 1}), "binary", "training.monotone: kind: the levels of a category have no order"),
        (
            Training(monotone={"x": -1}),
            "multiclass",
            "training.monotone: x: a target of several classes has no direction",
        ),
        (Training(monotone={"y": 1}), "binary", "training.monotone: no feature 'y'"),
        (Training(interactions=[["x"], []]), "binary", r"training.interactions\[1\] is an empty group"),
        (Training(interactions=[["x", "x"]]), "binary", r"training.interactions\[0\] names a feature twice"),
        (Training(interactions=[["x", "z"]]), "binary", r"training.interactions\[0\]: no feature 'z'"),
    ],
)
def test_a_constraint_without_a_meaning_is_refused_by_name(training: Training, kind: str, says: str) -> None:
    with pytest.raises(JobError, match=says):
        check_constraints(training, FEATURES, kind)


def test_constraints_with_a_meaning_pass() -> None:
    check_constraints(Training(monotone={"x": 1, "kind": 0}, interactions=[["x", "kind"]]), FEATURES, "binary")
    check_constraints(Training(monotone={"x": 0}), FEATURES, "multiclass")
    check_constraints(Training(monotone={"x": 1}), FEATURES, "ranking")


def test_constraints_go_by_name() -> None:
    shape = ModelShape(("a", "b"), monotone={"b": -1}, interactions=[["a", "b"]])
    params = xgboost_params("reg:squarederror", shape, 1.5, {}, 0)
    assert params["monotone_constraints"] == "(0,-1)"
    assert params["interaction_constraints"] == [["a", "b"]]
    with pytest.raises(JobError, match=r"training\.monotone: no feature 'c'"):
        xgboost_params("reg:squarederror", ModelShape(("a",), monotone={"c": 1}), 0.5, {}, 0)


def test_our_parameters_are_all_used_by_xgboost() -> None:
    for objective in KINDS:
        shape = ModelShape(("f0", "f1"), classes=2, quantiles=[0.5])
        params = xgboost_params(objective, shape, 0.5, {"max_depth": 2}, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            booster(params)


@pytest.mark.parametrize("objective", KINDS)
def test_resolved_parameters_are_those_that_xgboost_uses(objective: str) -> None:
    """Those that a job does not name, too: a default that changes here has to be given to XGBoost, and the reverse."""
    for kind in ("gbtree", "dart"):
        shape = ModelShape(("f0", "f1"), classes=2, quantiles=[0.5])
        params = xgboost_params(objective, shape, 0.5, with_defaults({"booster": kind}), 1)
        used = values(json.loads(booster(params).save_config()))
        for name, value in resolved_params({}).items():
            if name in used and name != "booster":
                assert used[name] <= {plain(value)}, name
    assert resolved_params({"learning_rate": 0.5})["eta"] == 0.5


def values(config: Any) -> dict[str, set[Any]]:
    """What each parameter is set to, wherever XGBoost's configuration has it."""
    found: dict[str, set[Any]] = {}
    inner = config.values() if isinstance(config, dict) else config
    for one in inner:
        for name, several in values(one).items() if isinstance(one, (dict, list)) else ():
            found.setdefault(name, set()).update(several)
    for name, one in config.items() if isinstance(config, dict) else ():
        if isinstance(one, str):
            found.setdefault(name, set()).add(plain(one))
    return found


def plain(value: Any) -> Any:
    """A number as float32, a text as it is."""
    try:
        return np.float32(value)
    except ValueError:
        return value


def test_which_way_is_better() -> None:
    assert rising("ndcg@10")
    assert not rising("logloss")


def test_numbers_of_numpy_are_parameters() -> None:
    params = {"max_depth": np.int64(4), "eta": np.float32(0.5), "grow_policy": "depthwise"}
    job = Job.parse({"data": {"source": "x", "target": "y"}, "training": {"params": params}})
    assert job.training.params == {"max_depth": 4, "eta": 0.5, "grow_policy": "depthwise"}
    assert type(job.training.params["max_depth"]) is int


def test_fields_of_the_job_are_no_parameters() -> None:
    with pytest.raises(JobError, match=r"params\.row_sample cannot be set here: training\.row_sample"):
        check_params({"row_sample": 0.5})
