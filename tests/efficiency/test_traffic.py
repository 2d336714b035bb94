"""Bytes that boosting sends: against numbers known from XGBoost's source, and against the kernel's counters."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.efficiency.traffic import (
    Call,
    GrownTree,
    Growth,
    calls_of_round,
    calls_of_tree,
    exchanged,
    full_tree,
    grown,
    ring_nbytes,
    sent_nbytes,
)
from pipeline.scaling.synthetic import Synthetic
from tests.efficiency.trained import expected_nbytes, train

GROWTH = Growth(bins=20 * 256, depth=6)


@pytest.mark.parametrize(("workers", "rank", "nbytes"), [(2, 0, 3_932_184), (2, 1, 3_932_184), (3, 2, 4_369_136)])
def test_a_full_tree_sends_what_was_once_counted(workers: int, rank: int, nbytes: int) -> None:
    """20 features of 256 bins, depth 6; the numbers are of an earlier measurement."""
    assert sent_nbytes(calls_of_tree(GROWTH, full_tree(GROWTH)), workers, rank) == nbytes


def test_all_ranks_together_send_the_vector_so_many_times() -> None:
    """N - 1 steps of reduce-scatter and N of allgather, each of which sends every segment once."""
    for workers in (2, 3, 4, 7):
        for elements in (workers, 100, 101, 12_345):
            call = Call(elements)
            total = sum(ring_nbytes(call, workers, rank) for rank in range(workers))
            assert total == (2 * workers - 1) * call.nbytes
    assert ring_nbytes(Call(2), 3, 1) == 3 * 16  # fewer elements than workers: gathered whole
    assert ring_nbytes(Call(1_000), 1, 0) == 0


def test_histograms_exchanged() -> None:
    assert exchanged(GROWTH, full_tree(GROWTH)) == [1, 2, 4, 8, 16]  # the last level has no children to exchange for
    assert exchanged(GROWTH, GrownTree((1, 2, 1))) == [1, 2, 1]
    assert exchanged(GROWTH, GrownTree(())) == []
    deep = dataclasses.replace(GROWTH, depth=11)
    assert exchanged(deep, full_tree(deep))[-2:] == [256, 256]  # the level of 512 in two calls
    assert exchanged(dataclasses.replace(deep, device="cuda"), full_tree(deep))[-1] == 512
    guided = dataclasses.replace(GROWTH, policy="lossguide")
    assert exchanged(guided, GrownTree((1, 2, 1))) == [1] * 4
    full = dataclasses.replace(guided, max_leaves=5, depth=3)
    assert len(exchanged(full, GrownTree((1, 2, 1), last=2))) == 3  # the lowest level needs none anyway
    assert len(exchanged(full, GrownTree((1, 2, 1), last=1))) == 2  # the split that made it full needs none


def test_a_full_tree_is_a_bound() -> None:
    assert full_tree(GROWTH) == GrownTree((1, 2, 4, 8, 16, 32))
    assert full_tree(dataclasses.replace(GROWTH, max_leaves=6)) == GrownTree(
        (1, 2, 1, 1)
    )  # (1, 2, 2) exchanges one less
    chain = Growth(bins=10, depth=0, max_leaves=4, policy="lossguide")
    assert full_tree(chain).leaves == 4
    with pytest.raises(ValueError, match="no bound"):
        full_tree(Growth(bins=10, depth=0))


def test_calls_of_a_round() -> None:
    two = calls_of_round(GROWTH, [GrownTree((1,)), GrownTree(())])
    assert [call.elements for call in two] == [2, 10_240, 10_240, 2, 10_240]
    assert len(calls_of_round(GROWTH, [GrownTree(())], adaptive=1)) == 3


def test_shapes_from_a_model() -> None:
    assert grown([2**31 - 1, 0, 0, 2, 2], [1, -1, 3, -1, -1]) == GrownTree((1, 1), last=1)
    assert grown([2**31 - 1], [-1]) == GrownTree(())


FEW, MANY = Synthetic(rows=3_000, features=7), Synthetic(rows=40_000, features=4)
CASES: dict[str, tuple[Synthetic, str, dict[str, Any]]] = {
    "binary": (FEW, "binary:logistic", {"max_depth": 5}),
    "multi-class": (Synthetic(rows=3_000, features=7, classes=5), "multi:softprob", {"max_depth": 4}),
    "loss-guided": (FEW, "binary:logistic", {"grow_policy": "lossguide", "max_leaves": 24, "max_depth": 0}),
    "loss-guided, depth": (FEW, "binary:logistic", {"grow_policy": "lossguide", "max_leaves": 40, "max_depth": 6}),
    "leaves": (FEW, "binary:logistic", {"max_leaves": 20, "max_depth": 6}),
    "absolute error": (FEW, "reg:absoluteerror", {"max_depth": 5}),
    "quantiles": (FEW, "reg:quantileerror", {"max_depth": 4}),
    "wide levels": (MANY, "binary:logistic", {"max_depth": 11, "min_child_weight": 0, "reg_lambda": 0}),
    "column sampling": (FEW, "binary:logistic", {"max_depth": 5, "colsample_bytree": 0.5}),
}


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_bytes_are_those_of_the_sockets(make_cluster: Callable[[int, int], Any], name: str, world: int) -> None:
    """To the byte, in every round and on every rank."""
    data, objective, params = CASES[name]
    meters = train(make_cluster(3, 1), world, data, objective, params).meters
    assert [len(trees) for trees in meters[0].trees] == [meters[0].trees_per_round] * 4
    for rank, meter in enumerate(meters):
        assert meter.missing == ()
        assert meter.bytes_sent is not None
        assert meter.bytes_sent.tolist() == expected_nbytes(meters, rank)
    if name == "wide levels":
        assert max(max(tree.splits) for trees in meters[0].trees for tree in trees) > 256
