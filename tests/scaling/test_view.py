"""The summary of a scaling result: medians, factors, and the single process as baseline."""

import dataclasses

import pytest

from pipeline.efficiency.records import Mode, Result, Single
from pipeline.scaling.view import base_of, headline_point, summarise_points
from tests.scaling.examples import configuration, point, result


def of_two(single_seconds: float | None = 0.02, threads: int = 2) -> Result:
    """One and two workers, and a single process with so many threads."""
    made = result(single_seconds=single_seconds)
    singles = tuple(dataclasses.replace(single, threads=threads) for single in made.singles)
    return dataclasses.replace(made, singles=singles)


def test_medians_and_figures_of_a_point() -> None:
    one, two = summarise_points(of_two())
    assert two.seconds.low <= two.seconds.median <= two.seconds.high
    assert two.PE == pytest.approx(two.LB * two.CommE)
    assert two.CommE == pytest.approx(two.SerE * two.TE)
    assert two.GE == pytest.approx(0.02 / two.seconds.median)
    assert one.CompS == 1.0
    speedup = one.seconds.median / two.seconds.median
    assert two.serial_fraction == pytest.approx((1 / speedup - 1 / 2) / (1 - 1 / 2))
    assert one.serial_fraction is None


def test_measured_parts_by_rank() -> None:
    (one, two) = summarise_points(of_two())
    assert (len(one.splits), len(two.splits)) == (1, 2)
    assert two.closures == (0.012, 0.012)
    assert two.bytes_sent == two.bytes_expected == (100, 100)  # 1,000 in 10 rounds
    assert two.bytes_exact
    assert two.mean("useful") == pytest.approx(sum(split.useful for split in two.splits) / 2)


def test_the_better_of_two_single_processes_counts() -> None:
    one, two = summarise_points(
        of_two(single_seconds=0.5)
    )  # all threads in each other's way: one worker alone is faster
    base = base_of(of_two(single_seconds=0.5), two.configuration)
    assert base is not None
    assert (base.all_threads, base.threads) == (False, 1)
    assert base.seconds == pytest.approx(one.seconds.median)
    assert two.GE == pytest.approx(one.seconds.median / two.seconds.median)
    assert one.GE == pytest.approx(1.0)


def test_one_worker_is_not_judged_by_more_cores_than_it_has() -> None:
    """In core-seconds the process with two threads is dearer than the worker: that worker is the best there is."""
    one, _ = summarise_points(of_two(single_seconds=0.02))
    assert one.GE == pytest.approx(1.0)
    cheap = summarise_points(of_two(single_seconds=0.01))[0]
    assert cheap.GE == pytest.approx(0.01 * 2 / cheap.seconds.median)


def test_a_single_process_on_fewer_cores_counts_by_core_seconds() -> None:
    """On a cluster elsewhere it runs in one worker: two workers should take half as long as it."""
    _, two = summarise_points(of_two(single_seconds=0.02, threads=1))
    assert two.GE == pytest.approx(0.02 / 2 / two.seconds.median)


def test_oversubscribed_workers_share_the_cores_of_the_single_process() -> None:
    crowded = point(configuration(4))
    crowded = dataclasses.replace(
        crowded, configuration=dataclasses.replace(crowded.configuration, oversubscribed=True)
    )
    (four,) = summarise_points(result(crowded, single_seconds=0.001))
    assert four.GE == pytest.approx(0.001 / four.seconds.median)


def test_without_a_base_case_there_is_no_global_efficiency() -> None:
    (two,) = summarise_points(result(point(configuration(2)), single_seconds=None))
    assert (two.GE, two.CompS, two.serial_fraction) == (None, None, None)
    assert base_of(result(single_seconds=None), two.configuration) is None


def test_weak_scaling_is_counted_by_row() -> None:
    points = [point(configuration(n, rows=100_000 * n, mode="weak")) for n in (1, 2)]
    made = dataclasses.replace(result(*points), singles=(Single("weak", 200_000, 2, (0.02,)),))
    one, two = summarise_points(made)
    assert two.CompS == pytest.approx(sum(s.useful for s in one.splits) * 2 / sum(s.useful for s in two.splits))
    assert two.serial_fraction is None
    assert two.GE == pytest.approx(0.02 / two.seconds.median)
    assert one.GE == pytest.approx(min(0.02 / 2 * 2, one.seconds.median) / one.seconds.median)


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ([("weak", 4, False), ("strong", 2, False), ("strong", 1, False)], ("strong", 2)),
        ([("weak", 2, False), ("weak", 1, False)], ("weak", 2)),
        ([("strong", 4, True), ("weak", 2, False)], ("weak", 2)),
        ([("strong", 4, True)], ("strong", 4)),
    ],
)
def test_the_point_to_speak_of(shown: list[tuple[Mode, int, bool]], told: tuple[str, int]) -> None:
    points = []
    for mode, workers, crowded in shown:
        made = point(configuration(workers, mode=mode), repetitions=1)
        where = dataclasses.replace(made.configuration, oversubscribed=crowded)
        points.append(dataclasses.replace(made, configuration=where))
    found = headline_point(result(*points))
    assert found is not None
    assert (found.configuration.mode, found.workers) == told


def test_points_that_were_not_reached_are_left_out() -> None:
    unmeasured = dataclasses.replace(point(configuration(2)), samples=())
    assert summarise_points(result(unmeasured)) == ()
    assert headline_point(result(unmeasured)) is None
