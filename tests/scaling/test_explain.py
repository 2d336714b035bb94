"""The three sentences: the largest loss, its cause, and what to change, each with its number."""

import dataclasses
import re

import pytest

from pipeline.efficiency.cost import from_configuration, predict, replicated_seconds
from pipeline.efficiency.machine import Coefficients, Ring
from pipeline.efficiency.records import Point, TimeSplit
from pipeline.scaling.explain import explain_result, faster, overhead_breakdown
from pipeline.scaling.view import summarise_points
from tests.scaling.examples import MACHINE, configuration, point, result


def measured_as(made: Point, *splits: TimeSplit) -> Point:
    """The same point with other splits in every sample."""
    samples = tuple(
        dataclasses.replace(
            sample, workers=tuple(dataclasses.replace(w, split=s) for w, s in zip(sample.workers, splits, strict=True))
        )
        for sample in made.samples
    )
    return dataclasses.replace(made, samples=samples)


def test_transfer_is_reported_with_what_is_exchanged() -> None:
    two = point(configuration(2, rows=200_000))
    loss, cause, change = explain_result(result(two, single_seconds=None), MACHINE)
    assert "the largest loss is transfer" in loss
    assert re.search(r"\d\.\d MB of histograms \(8,128 bins, depth 6\)", cause)
    assert "200,000" in cause
    assert "a network 10 times as fast is predicted to take" in change


def test_uneven_shares_are_reported_with_their_worker() -> None:
    uneven = point(configuration(2, rows=400_000, shares=(0.2, 0.8)))
    loss, cause, change = explain_result(result(uneven, single_seconds=None), MACHINE)
    assert "the largest loss is imbalance" in loss
    assert "worker 1 has 80% of the rows" in cause
    assert "an even split of the rows is predicted to take" in change


def test_waiting_without_imbalance_is_distinguished() -> None:
    """Both compute equally long in all, but in turn one is late."""
    two = measured_as(point(configuration(2)), *(TimeSplit(0.010, 0.001, 0.004, 0.0),) * 2)
    loss, cause, _ = explain_result(result(two, single_seconds=None), None)
    assert "the largest loss is waiting" in loss
    assert "different workers are late in different rounds" in cause


def test_the_run_queue_is_reported_with_what_free_cores_would_save() -> None:
    two = point(configuration(2), other=0.5)
    _, cause, change = explain_result(result(two, single_seconds=None), MACHINE)
    assert "had no core for 500.00 ms" in cause
    assert "having the cores to themselves was measured to take" in change


def test_replicated_evaluation_is_reported_where_it_costs_most() -> None:
    slow = dataclasses.replace(
        MACHINE, coefficients=dataclasses.replace(MACHINE.coefficients, bin_node=1e-7), ring=Ring(1e-6, 1e-12),
        collectives={2: ((16, 1e-6), (1 << 25, 1e-4))},
    )  # fmt: skip
    loss, cause, change = explain_result(result(point(configuration(2, rows=5_000)), single_seconds=None), slow)
    assert "the largest loss is replicated split evaluation" in loss
    assert "looks through all 8,128 bins" in cause
    assert "half the bins" in change or "depth 5" in change


def test_losses_are_the_means_over_the_workers() -> None:
    two = measured_as(
        point(configuration(2)), TimeSplit(0.008, 0.001, 0.005, 0.0), TimeSplit(0.010, 0.001, 0.002, 0.001)
    )
    (point_seen,) = summarise_points(result(two, single_seconds=None))
    losses = overhead_breakdown(point_seen, MACHINE)
    assert losses["imbalance"] == pytest.approx(0.001)
    assert losses["waiting"] == pytest.approx(0.0025)
    assert losses["transfer"] == pytest.approx(0.001)
    assert losses["run queue"] == pytest.approx(0.0005)
    repeated = replicated_seconds(MACHINE, from_configuration(point_seen.configuration))
    assert losses["replicated split evaluation"] == pytest.approx(repeated / 2)  # one of two had to do it
    assert set(overhead_breakdown(point_seen, None)) == {"imbalance", "transfer", "waiting", "run queue"}


def test_gains_are_the_models() -> None:
    two = point(configuration(2))
    _, _, change = explain_result(result(two, single_seconds=None), MACHINE)
    workload = from_configuration(two.configuration)
    now, then = predict(MACHINE, workload), predict(faster(MACHINE), workload)
    saved = 1 - then.seconds / now.seconds
    assert (
        f"a network 10 times as fast is predicted to take {saved:.0%} off a round (PE {then.figures.PE:.2f})" in change
    )
    more = dataclasses.replace(workload, rows=tuple(4 * rows for rows in workload.rows))
    risen = predict(MACHINE, more).figures.PE
    assert f"raise PE from {now.figures.PE:.2f} to {risen:.2f}" in change


def test_a_better_single_process_is_proposed_with_its_measured_gain() -> None:
    _, _, change = explain_result(result(point(configuration(2)), single_seconds=0.001), MACHINE)
    assert "one process without a cluster, with all 2 threads, was measured to take" in change


def test_one_worker_that_is_faster_alone_is_proposed() -> None:
    one, two = point(configuration(1, rows=2_000)), point(configuration(2, rows=2_000), slower=3.0)
    _, _, change = explain_result(result(one, two, single_seconds=9.0), MACHINE)
    assert "one worker alone was measured to take" in change


def test_one_worker_alone_exchanges_nothing() -> None:
    (said,) = explain_result(result(point(configuration(1))), MACHINE)
    assert "nothing is exchanged" in said


def test_without_a_machine_no_gain_is_predicted() -> None:
    said = explain_result(result(point(configuration(2)), single_seconds=None), None)
    assert len(said) == 3
    assert said[2] == "What to change: without a calibration no gain can be predicted, and none was measured."


def test_nothing_measured_nothing_reported() -> None:
    assert explain_result(dataclasses.replace(result(), points=()), MACHINE) == ()


def test_a_machine_that_computes_nothing_is_no_reason_to_fail() -> None:
    idle = dataclasses.replace(MACHINE, coefficients=Coefficients(row=1e-12))
    assert len(explain_result(result(point(configuration(2))), idle)) == 3
