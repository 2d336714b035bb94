"""The rounds in one process: exact predictions, what is kept, uneven shares."""

import dataclasses
import gc
import weakref
from typing import Any

import numpy as np
import pytest
import xgboost

from pipeline.errors import CollectiveError, TrainingError
from pipeline.training.state import State
from pipeline.training.xgboost.matrix import build_partition
from pipeline.training.xgboost.rounds import RoundHooks, check_device, train_rounds

CASES: dict[str, dict[str, Any]] = {
    "binary": {},
    "nothing missing": {"missing": False},
    "multi-class": {"objective": "multi:softprob"},
    "regression": {"objective": "reg:squarederror"},
    "quantiles": {"objective": "reg:quantileerror"},
    "ranking": {"objective": "rank:ndcg"},
    "dart": {"params": {"booster": "dart", "rate_drop": 0.3}},
    "cut to the best round": {"options": {"early_stopping": 3}, "params": {"learning_rate": 1.0}, "rounds": 60},
    "row sample": {"options": {"row_sample": 0.5}},
    "deep": {"params": {"max_depth": 10, "min_child_weight": 0}},
}


@pytest.mark.parametrize("name", CASES)
def test_the_model_predicts_from_raw_values_what_training_saw(name: str, make_case: Any) -> None:
    """Extreme and missing values among them: the cuts come from a sample that has none of the extremes."""
    case = make_case(**CASES[name])
    sample_cuts = case.cuts()
    features = case.features.copy()
    features[:300, :4] *= 1e6
    features[300:400, 0], features[400:500, 1] = 3e38, -3e38
    case = dataclasses.replace(case, features=features)
    partition = build_partition(case.blocks(sample_cuts), sample_cuts, case.names, threads=2)
    result = train_rounds(partition, case.spec())
    model = xgboost.Booster()
    model.load_model(bytearray(result.model))
    assert model.num_boosted_rounds() == result.best_round
    for use, scores in enumerate((result.train, result.validation)):
        raw = xgboost.DMatrix(features[case.use == use], feature_names=case.names, feature_types=[*"qqqqqc"])
        np.testing.assert_array_equal(model.predict(raw), scores.prediction)
        np.testing.assert_array_equal(scores.label, case.label[case.use == use])


def test_early_stopping_cuts_the_model(make_case: Any) -> None:
    case = make_case(**CASES["cut to the best round"])
    cuts = case.cuts()
    result = train_rounds(build_partition(case.blocks(cuts), cuts, case.names, threads=1), case.spec())
    values = result.history["validation.logloss"]
    assert len(values) == result.rounds == result.best_round + 3
    assert result.best_round == int(np.argmin(values)) + 1
    assert all(len(series) == result.rounds for series in result.history.values())


def test_without_early_stopping_every_round_stays(make_case: Any) -> None:
    case = make_case(params={"learning_rate": 1.0}, rounds=30, options={"early_stopping": 0})
    cuts = case.cuts()
    result = train_rounds(build_partition(case.blocks(cuts), cuts, case.names, threads=1), case.spec())
    assert int(np.argmin(result.history["validation.logloss"])) + 1 < 30  # the best one came before
    assert result.rounds == result.best_round == 30
    assert xgboost.Booster(model_file=bytearray(result.model)).num_boosted_rounds() == 30


def test_blocks_are_not_kept(make_case: Any) -> None:
    case = make_case()
    cuts = case.cuts()
    blocks = case.blocks(cuts)
    codes = [weakref.ref(block.codes.base if block.codes.base is not None else block.codes) for block in blocks]
    partition = build_partition(blocks, cuts, case.names, threads=1)
    del blocks
    gc.collect()
    assert all(ref() is None for ref in codes)
    assert partition.train.rows > 0


@pytest.mark.parametrize("shares", [(1, 11), (11, 1)])
@pytest.mark.parametrize("side", [0, 1])
def test_a_worker_may_have_rows_of_one_use_only(train: Any, make_case: Any, shares: Any, side: int) -> None:
    case = make_case()
    first = len(case.label) // 12
    use = case.use.copy()
    use[:first] = side
    fixed = dataclasses.replace(case)
    object.__setattr__(fixed, "__class__", type("Fixed", (type(case),), {"use": use}))
    whole, parted = train(fixed), train(fixed, shares)
    assert whole.result.model == parted.result.model


def test_no_validation_rows(train: Any, make_case: Any) -> None:
    case = make_case(validation_share=0.0, options={"early_stopping": 5})
    outcome = train(case, (6, 6))
    assert outcome.validation is None
    assert outcome.result.best_round == outcome.result.rounds == case.rounds
    assert set(outcome.result.history) >= {"train.logloss", "train.auc"}


def test_cancelling_stops_the_rounds(make_case: Any) -> None:
    case = make_case(rounds=100_000)
    cuts = case.cuts()
    partition = build_partition(case.blocks(cuts), cuts, case.names, threads=1)
    with pytest.raises(TrainingError, match="cancelled"):
        train_rounds(partition, case.spec(), hooks=RoundHooks(cancelled=lambda: True))


def test_a_worker_that_leaves_hands_its_state_over(make_case: Any) -> None:
    """No round is lost: the attempt continues elsewhere from the round it ended with."""
    case = make_case(rounds=12, options={"early_stopping": 0})
    cuts = case.cuts()
    partition = build_partition(case.blocks(cuts), cuts, case.names, threads=1)
    whole: list[tuple[State, tuple[int, ...]]] = []
    expected = train_rounds(partition, case.spec(), hooks=RoundHooks(hand_over=lambda *given: whole.append(given)))
    ((last, leaving),) = whole  # for a loss while rows are scored
    assert (last.round, leaving) == (12, ())
    handed: list[tuple[State, tuple[int, ...]]] = []
    hooks = RoundHooks(leaving=lambda: True, hand_over=lambda *given: handed.append(given))
    with pytest.raises(CollectiveError, match="leaving"):
        train_rounds(partition, case.spec(), hooks=hooks)
    ((state, leaving),) = handed
    assert (state.round, leaving) == (1, (0,))
    assert train_rounds(partition, case.spec(), start=state).model == expected.model


def test_another_device_than_asked_is_an_error() -> None:
    matrix = xgboost.DMatrix(np.ones((2, 1), np.float32), label=[0, 1])
    booster = xgboost.Booster({"device": "cpu"}, [matrix])
    booster.update(matrix, 0)
    check_device(booster, "cpu")
    with pytest.raises(TrainingError, match="trained on cpu though cuda"):
        check_device(booster, "cuda")
