"""Rounds that resume from a state: the same bytes as without the interruption, for every objective."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from pipeline.config.xgboost import KINDS
from pipeline.metrics.exact import evaluate
from pipeline.training.checkpoint import decode, encode
from pipeline.training.identity import Identity
from pipeline.training.state import State
from pipeline.training.trainer import RoundsResult
from pipeline.training.xgboost.matrix import build_partition
from pipeline.training.xgboost.model_bytes import pack, unpack
from pipeline.training.xgboost.rounds import RoundHooks, train_rounds

CASES: dict[str, dict[str, Any]] = {
    **{name: {"objective": name} for name in KINDS},
    "sampled": {
        "objective": "binary:logistic",
        "params": {"colsample_bytree": 0.6, "colsample_bynode": 0.7},
        "options": {"row_sample": 0.6, "early_stopping": 4, "metrics": ("logloss", "auc")},
    },
    "stopped early, multi-class": {
        "objective": "multi:softprob",
        "params": {"learning_rate": 1.0},
        "options": {"early_stopping": 2, "metrics": ("mlogloss",), "row_sample": 0.8},
        "rounds": 30,
    },
    "trees of several classes": {"objective": "multi:softprob", "params": {"multi_strategy": "multi_output_tree"}},
    "one quantile": {"objective": "reg:quantileerror", "shape": {"quantiles": [0.4]}},
    "sampled ranking": {"objective": "rank:ndcg", "options": {"row_sample": 0.7}},
    "weighted ranking": {"objective": "rank:ndcg", "weighted": True},
    "ranking with interactions": {
        "objective": "rank:ndcg",
        "options": {"row_sample": 0.7},
        "shape": {"interactions": (("f0", "f1"), ("f2", "f3", "f4"))},
    },
    "dart": {"objective": "reg:squarederror", "params": {"booster": "dart", "rate_drop": 0.3}},
    "dart, multi-class": {"objective": "multi:softprob", "params": {"booster": "dart", "rate_drop": 0.3}},
    "forest": {"params": {"num_parallel_tree": 3, "colsample_bynode": 0.5}},
    "monotone": {"objective": "reg:squarederror", "shape": {"monotone": {"f0": 1, "f1": -1}}},
    "lossguide": {"objective": "binary:logistic", "params": {"grow_policy": "lossguide", "max_leaves": 12}},
}
ON_DISK = ("binary:logistic", "multi:softprob", "sampled ranking")


@pytest.fixture(params=CASES)
def case(request: Any, make_case: Any) -> Any:
    return make_case(**{"rows": 1500, "rounds": 14, **CASES[request.param]})


def train(case: Any, spec: Any, scratch: Path | None = None, **options: Any) -> tuple[RoundsResult, list[State]]:
    cuts = case.cuts()
    partition = build_partition(case.blocks(cuts), cuts, case.names, threads=1, scratch=scratch)
    kept: list[State] = []
    return train_rounds(partition, spec, hooks=RoundHooks(keep=kept.append), **options), kept


def test_resumed_equals_uninterrupted(case: Any) -> None:
    spec = dataclasses.replace(case.spec(), checkpoint_rounds=5)
    whole, kept = train(case, spec)
    assert [state.round for state in kept] == [number for number in range(5, 30, 5) if number < whole.rounds]
    assert whole.state is not None
    again = None  # the last state of a training that was itself resumed
    for state in (*kept[:2], whole.state):
        resumed, later = train(case, spec, start=again or state)
        again = later[0] if later else None
        assert resumed.model == whole.model
        assert (resumed.rounds, resumed.best_round) == (whole.rounds, whole.best_round)
        assert resumed.history.keys() == whole.history.keys()
        for name, series in whole.history.items():
            np.testing.assert_array_equal(resumed.history[name], series)


@pytest.mark.parametrize("name", ON_DISK)
def test_resumed_on_disk_equals_uninterrupted_in_memory(name: str, make_case: Any, tmp_path: Path) -> None:
    case = make_case(**{"rows": 1500, "rounds": 9, **CASES[name]})
    whole, _ = train(case, case.spec())
    short, _ = train(case, dataclasses.replace(case.spec(), rounds=4), tmp_path)
    resumed, _ = train(case, case.spec(), tmp_path, start=short.state)
    assert resumed.model == whole.model


def test_the_last_state_gives_the_scores_again(make_case: Any) -> None:
    case = make_case(rounds=30, options={"early_stopping": 3, "metrics": ("auc",)}, params={"learning_rate": 1.0})
    whole, _ = train(case, case.spec())
    assert whole.state is not None
    assert whole.state.stopped
    again, _ = train(case, case.spec(), start=whole.state)
    assert again.model == whole.model
    assert again.meter is None
    assert again.train is not None
    np.testing.assert_array_equal(again.train.prediction, whole.train.prediction)  # type: ignore[union-attr]


def dart(make_case: Any) -> Any:
    """Early stopping some rounds before the last, with trees that later rounds rescale."""
    params = {"booster": "dart", "rate_drop": 0.5, "learning_rate": 1.0}
    return make_case(rounds=30, options={"early_stopping": 6, "metrics": ("logloss",)}, params=params)


def test_the_model_of_dart_is_the_one_whose_metric_was_shown(make_case: Any) -> None:
    case = dart(make_case)
    result, _ = train(case, case.spec())
    assert result.best_round < result.rounds
    shown = result.history["validation.logloss"][result.best_round - 1]
    assert result.validation is not None
    scores = result.validation
    exact = evaluate("binary", "binary:logistic", scores.prediction, scores.label)["logloss"]
    assert exact == pytest.approx(shown, rel=1e-6)
    loaded = xgboost.Booster(model_file=bytearray(result.model))
    assert loaded.num_boosted_rounds() == result.best_round


def test_resumed_dart_keeps_the_best_round(make_case: Any) -> None:
    case = dart(make_case)
    spec = dataclasses.replace(case.spec(), checkpoint_rounds=3)
    whole, kept = train(case, spec)
    later = [
        decode(encode(state, Identity({}, (), "cpu", "xgboost", {"xgboost": "3"})))[0]
        for state in kept
        if state.round > state.best_round
    ]
    assert later
    for state in later:
        resumed, _ = train(case, spec, start=state)
        assert (resumed.model, resumed.best_round) == (whole.model, whole.best_round)
    old = dataclasses.replace(
        later[0], content=pack(unpack(later[0].content)[0])
    )  # of a version that kept the rounds only
    resumed, _ = train(case, spec, start=old)
    assert resumed.best_round > old.round


def test_a_metric_that_is_never_a_number_keeps_the_last_round(make_case: Any) -> None:
    case = make_case("reg:squarederror", rounds=8, options={"early_stopping": 2, "metrics": ("rmsle",)})
    result, _ = train(case, case.spec())  # of labels below -1
    assert np.isnan(result.history["validation.rmsle"]).all()
    assert (result.rounds, result.best_round) == (8, 8)


def test_more_rounds_than_there_were_to_be(make_case: Any) -> None:
    case = make_case(rounds=12)
    whole, _ = train(case, case.spec())
    short, _ = train(case, dataclasses.replace(case.spec(), rounds=7))
    resumed, _ = train(case, case.spec(), start=short.state)
    assert resumed.model == whole.model


def test_checkpoints_by_time_take_little_of_it(make_case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.training.xgboost import rounds

    case = make_case(rounds=10)
    _, kept = train(case, dataclasses.replace(case.spec(), checkpoint_seconds=1e-9))
    assert len(kept) >= 1
    monkeypatch.setattr(rounds, "CHECKPOINT_SHARE", 1e-9)
    _, kept = train(case, dataclasses.replace(case.spec(), checkpoint_seconds=1e-9))
    assert [state.round for state in kept] == [1]  # after the first its cost is known
