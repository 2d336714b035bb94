"""The analytic model, by hand and by its laws."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.efficiency.cost import (
    Workload,
    calls,
    curve,
    expected_tree,
    from_configuration,
    predict,
    replicated_seconds,
    stops_paying,
    weak_limit,
    work,
)
from pipeline.efficiency.machine import COEFFICIENTS, Coefficients, Fill, Machine, Ring, interpolated
from pipeline.efficiency.traffic import full_tree, sent_nbytes
from tests.scaling.examples import MACHINE, configuration

EVERY = Fill(constant=50.0, rows=0.0, round=0.0, level=0.0, features=0.0, smaller=(0.25, 0.0, 0.0, 0.0, 0.0))
BINS = 253
FULL = dataclasses.replace(MACHINE, fill=EVERY)  # every node splits, a quarter of the rows in its smaller child


def workload(*rows: int, features: int = 8, depth: int = 3, **more: object) -> Workload:
    return Workload(rows or (10_000,), features, BINS * features, depth, **more)  # type: ignore[arg-type]  # by name


def test_work_by_hand() -> None:
    one = workload(1_000_000)
    amounts = work(1_000_000, one, expected_tree(one, EVERY))
    assert amounts.keys() == set(COEFFICIENTS)
    built = 1_000_000 * (1 + 0.25 * 2)  # the root, and the smaller children of the first two levels
    assert amounts["row_built"] == pytest.approx(built)
    assert amounts["row_feature"] == pytest.approx(built * 8)
    assert amounts["row_split"] == pytest.approx(3e6)  # all rows, at three levels
    assert amounts["bin_node"] == pytest.approx(BINS * 8 * 7)  # 1 + 2 + 4 nodes; the leaves are not looked at
    assert amounts["bin_node_filled"] == pytest.approx(BINS * 8 * 7)  # so many rows fill every bin
    assert amounts["feature_node"] == pytest.approx(8 * 7)
    assert amounts["row_feature_doubling"] == amounts["bin_node_wide"] == 0  # 8 * 253 bins of 16 bytes: in the cache
    assert amounts["row_split_doubling"] == pytest.approx(3e6 * 2.932, rel=1e-3)  # 16 MB, the cache holds 2 MiB
    assert amounts["tree"] == 1


def test_several_trees_and_fewer_columns() -> None:
    tree = expected_tree(workload(5_000))
    once, five = (work(5_000, workload(5_000, trees_per_round=n), tree) for n in (1, 5))
    assert five == {name: pytest.approx(5 * amount) for name, amount in once.items()}
    half = work(5_000, workload(5_000, column_share=0.5), tree)
    assert half["bin_node"] == once["bin_node"] / 2  # only these are looked at
    assert half["row_feature"] == once["row_feature"]  # XGBoost's histograms hold all


def test_trees_of_few_rows_and_late_rounds_split_less() -> None:
    early, late = (expected_tree(workload(20_000, depth=8, rounds=rounds)) for rounds in ((2, 6), (28, 32)))
    many = expected_tree(workload(2_000_000, depth=8))
    assert sum(late.splits) < sum(early.splits) < sum(many.splits) <= 255
    assert sum(late.smaller) < sum(early.smaller)
    assert early.rounded().splits[:4] == (1, 2, 4, 8)
    assert 180 < sum(early.splits) < 240  # 214, 98 were counted on synthetic rows
    assert 80 < sum(late.splits) < 125


def test_a_limit_of_leaves_is_kept() -> None:
    for limits in ({"max_leaves": 20, "depth": 0, "growth": "lossguide"}, {"max_leaves": 20, "depth": 10}):
        tree = expected_tree(workload(1_000_000, **limits))  # type: ignore[arg-type]  # by name
        assert 17 <= sum(tree.splits) <= 19
    endless = expected_tree(workload(100_000_000, depth=0))
    assert 1_000 < sum(endless.splits) < 2_048


def test_prediction_of_an_even_pair_by_hand() -> None:
    pair = workload(10_000, 10_000)
    predicted = predict(FULL, pair)
    tree = expected_tree(pair, EVERY)
    useful = MACHINE.coefficients.seconds(work(10_000, pair, tree))
    sizes = [16, *(BINS * 8 * 16 * count for count in (1, 1, 2))]  # the sum, the root, one of two, two of four
    assert [call.nbytes for call in calls(pair, tree)] == sizes
    transfer = sum(MACHINE.allreduce_seconds(size, 2) for size in sizes)
    assert predicted.splits[0].useful == pytest.approx(useful)
    assert predicted.splits[0].transfer == pytest.approx(transfer)
    assert predicted.splits[0].wait == predicted.splits[0].other == 0
    assert predicted.seconds == pytest.approx(useful + transfer)
    assert predicted.figures.PE == pytest.approx(useful / (useful + transfer))
    assert predicted.figures.J == pytest.approx(1)
    assert predicted.seconds_low < predicted.seconds < predicted.seconds_high
    assert predicted.bytes_bound == predicted.bytes_estimate  # every node splits


def test_uneven_rows_wait() -> None:
    predicted = predict(FULL, workload(30_000, 70_000))
    few, many = predicted.splits
    assert few.useful < many.useful
    assert few.wait == pytest.approx(many.useful - few.useful)
    assert many.wait == 0
    for split in predicted.splits:
        assert split.useful + split.transfer + split.wait == pytest.approx(predicted.seconds)
    assert predicted.figures.LB < 1


def test_a_slow_worker_has_no_wait() -> None:
    slow = dataclasses.replace(FULL, capabilities=(5e8, 2.5e8))  # the first one is typical
    first, second = predict(slow, workload(10_000, 10_000)).splits
    assert second.useful == pytest.approx(2 * first.useful)
    assert first.wait == pytest.approx(first.useful)
    assert second.wait == 0


def test_alone_all_is_useful() -> None:
    predicted = predict(MACHINE, workload(10_000))
    assert predicted.figures.PE == 1
    assert predicted.figures.saturated
    assert predicted.splits[0].transfer == 0
    assert predicted.bytes_estimate == (0,)


def test_the_bound_is_full_trees() -> None:
    pair = workload(5_000, 5_000, depth=9)
    predicted = predict(MACHINE, pair)
    full = calls(pair, full_tree(pair.tree_growth))
    assert predicted.bytes_bound[0] == sent_nbytes(full, 2, 0) > predicted.bytes_estimate[0]
    endless = predict(MACHINE, workload(5_000, 5_000, depth=0))
    assert endless.bytes_bound == endless.bytes_estimate  # nothing bounds it


def test_more_workers_than_calibrated_go_by_the_ring() -> None:
    ring = MACHINE.ring
    assert MACHINE.allreduce_seconds(1 << 20, 4) == pytest.approx(7 * (ring.alpha + (1 << 18) * ring.beta))
    assert MACHINE.allreduce_seconds(1 << 20, 1) == 0
    assert MACHINE.speeds(4) == (1.0,) * 4


def test_replicated_work_does_not_shrink_with_the_workers() -> None:
    one = workload(100_000)
    assert replicated_seconds(FULL, one) == pytest.approx(replicated_seconds(FULL, one.on(16, 100_000)))
    assert 0 < replicated_seconds(FULL, one) < predict(FULL, one).seconds


def test_curves_follow_amdahl_and_latency() -> None:
    strong = curve(MACHINE, workload(500_000, 500_000), [1, 2, 4, 1024])
    assert [point.workers for point in strong] == [1, 2, 4, 1024]
    assert strong[0].seconds > strong[1].seconds > strong[2].seconds
    assert strong[3].seconds > strong[2].seconds  # latency
    assert strong[0].parallel_efficiency == 1
    weak = curve(MACHINE, workload(500_000), [1, 4], "weak")
    assert 0.5 < weak[1].parallel_efficiency < 1


def test_where_adding_stops_paying() -> None:
    few, many = (stops_paying(MACHINE, workload(rows)) for rows in (20_000, 50_000_000))
    assert 1 <= few < many <= 1_024
    ideal = dataclasses.replace(MACHINE, coefficients=Coefficients(row=1e-6), collectives={}, ring=Ring(0.0, 0.0))
    assert stops_paying(ideal, workload(10_000_000), most=64) == 64


def test_weak_limit_is_the_last_good_number() -> None:
    base = workload(2_000_000)
    limit = weak_limit(MACHINE, base)
    good, bad = (curve(MACHINE, base, [count], "weak")[0].parallel_efficiency for count in (limit, limit + 1))
    assert good >= 0.8 > bad
    assert weak_limit(dataclasses.replace(MACHINE, collectives={}, ring=Ring(0.0, 0.0)), base, most=256) == 256


def test_absolute_error_exchanges_one_time_more() -> None:
    where = configuration(2)
    plain, adaptive = (
        from_configuration(dataclasses.replace(where, objective=objective))
        for objective in ("reg:squarederror", "reg:absoluteerror")
    )
    tree = expected_tree(plain)
    assert len(calls(adaptive, tree)) == len(calls(plain, tree)) + 1
    assert plain.rounds == (2, 12)


@given(
    rows=st.lists(st.integers(1, 10**8), min_size=1, max_size=5),
    features=st.integers(1, 500),
    depth=st.integers(0, 14),
    leaves=st.integers(0, 300),
    growth=st.sampled_from(["depthwise", "lossguide"]),
    classes=st.integers(1, 4),
)
def test_any_workload_has_a_sound_prediction(
    rows: list[int], features: int, depth: int, leaves: int, growth: str, classes: int
) -> None:
    any_one = workload(
        *rows, features=features, depth=depth, max_leaves=leaves and leaves + 1, growth=growth, trees_per_round=classes
    )
    predicted = predict(MACHINE, any_one)
    assert 0 < predicted.figures.PE <= 1
    assert predicted.figures.identity_error < 1e-9
    for split in predicted.splits:
        assert split.useful + split.transfer + split.wait == pytest.approx(predicted.seconds)
    if depth or leaves:
        trees = (expected_tree(any_one, MACHINE.fill), full_tree(any_one.tree_growth))
        payload, most = (sum(call.nbytes for call in calls(any_one, tree)) for tree in trees)
        assert payload <= most


@given(rows=st.integers(1, 10**7), more=st.integers(0, 10**7), features=st.integers(1, 200), depth=st.integers(1, 12))
def test_more_rows_never_take_less(rows: int, more: int, features: int, depth: int) -> None:
    alone = (workload(count, features=features, depth=depth) for count in (rows, rows + more))
    seconds = [predict(FULL, one).seconds for one in alone]
    assert seconds[0] <= seconds[1] * (1 + 1e-12)


def test_a_machine_survives_json() -> None:
    back = Machine.from_dict(json.loads(json.dumps(MACHINE.to_dict())))
    assert back == MACHINE


@pytest.mark.parametrize("damage", [{"version": 0}, {"coefficients": {"warp": 1}}, {"ring": None}, {"extra": 1}])
def test_another_version_is_no_machine(damage: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Machine.from_dict({**MACHINE.to_dict(), **damage})


def test_interpolation() -> None:
    table = ((0, 1.0), (10, 2.0), (20, 10.0))
    assert [interpolated(table, place) for place in (-5, 0, 5, 10, 15, 20, 30)] == [1, 1, 1.5, 2, 6, 10, 18]
    assert interpolated(((3, 7.0),), 100) == 7
