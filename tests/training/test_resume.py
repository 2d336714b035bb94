"""Rounds that go on from a state: the same model as without the interruption, for any layout."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import xgboost

from pipeline.training.checkpoint import State
from pipeline.training.matrix import build_partition
from pipeline.training.rounds import RoundsResult, train_rounds

CASES: dict[str, dict[str, Any]] = {
    "binary:logistic": {},
    "sampled": {
        "objective": "binary:logistic",
        "params": {"colsample_bytree": 0.6, "colsample_bynode": 0.7},
        "options": {"row_sample": 0.6, "early_stopping": 4, "metrics": ("logloss", "auc")},
    },
    "sampled ranking": {"objective": "rank:ndcg", "options": {"row_sample": 0.7}},
    "ranking with interactions": {
        "objective": "rank:ndcg",
        "options": {"row_sample": 0.7},
        "shape": {"interactions": (("f0", "f1"), ("f2", "f3", "f4"))},
    },
    "multi:softprob": {},
    "reg:quantileerror": {},
    "dart": {"objective": "reg:squarederror", "params": {"booster": "dart", "rate_drop": 0.3}},
    "monotone": {"objective": "reg:squarederror", "shape": {"monotone": {"f0": 1, "f1": -1}}},
    "lossguide": {"objective": "binary:logistic", "params": {"grow_policy": "lossguide", "max_leaves": 12}},
}


@pytest.fixture(params=CASES)
def case(request: Any, make_case: Any) -> Any:
    options = dict(CASES[request.param])
    return make_case(options.pop("objective", request.param), rounds=14, **options)


def train(case: Any, spec: Any, **options: Any) -> tuple[RoundsResult, list[State]]:
    cuts = case.cuts()
    partition = build_partition(case.blocks(cuts), cuts, case.names, threads=1)
    kept: list[State] = []
    return train_rounds(partition, spec, keep=kept.append, **options), kept


def same_model(one: bytes, other: bytes, case: Any) -> bool:
    """Byte for byte; else the predictions tell."""
    if one == other:
        return True
    rows = xgboost.DMatrix(case.features, feature_names=list(case.names), feature_types=types(case))
    first, second = (xgboost.Booster(model_file=bytearray(model)).predict(rows) for model in (one, other))
    return bool(np.array_equal(first, second))


def types(case: Any) -> list[str]:
    return ["q" if levels is None else "c" for levels in case.levels]


def test_resumed_equals_uninterrupted(case: Any) -> None:
    spec = dataclasses.replace(case.spec(), checkpoint_rounds=5)
    whole, kept = train(case, spec)
    assert [state.round for state in kept] == [number for number in (5, 10) if number < whole.rounds]
    for state in kept:
        resumed, _ = train(case, spec, start=state)
        assert same_model(resumed.model, whole.model, case)
        assert (resumed.rounds, resumed.best_round) == (whole.rounds, whole.best_round)
        assert resumed.history.keys() == whole.history.keys()
        for name, series in whole.history.items():
            np.testing.assert_array_equal(resumed.history[name], series)


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


def test_more_rounds_than_there_were_to_be(make_case: Any) -> None:
    case = make_case(rounds=12)
    whole, _ = train(case, case.spec())
    short, _ = train(case, dataclasses.replace(case.spec(), rounds=7))
    resumed, _ = train(case, case.spec(), start=short.state)
    assert resumed.model == whole.model


def test_checkpoints_by_time_take_little_of_it(make_case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.training import rounds

    case = make_case(rounds=10)
    _, kept = train(case, dataclasses.replace(case.spec(), checkpoint_seconds=1e-9))
    assert len(kept) >= 1
    monkeypatch.setattr(rounds, "CHECKPOINT_SHARE", 1e-9)
    _, kept = train(case, dataclasses.replace(case.spec(), checkpoint_seconds=1e-9))
    assert [state.round for state in kept] == [1]  # after the first its cost is known
