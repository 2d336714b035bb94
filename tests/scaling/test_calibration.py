"""Calibration: the arithmetic on made-up fits, what is kept, and one small real one."""

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.job import Cluster
from pipeline.efficiency.cost import Workload, expected_tree, predict, work
from pipeline.efficiency.machine import COEFFICIENTS, Coefficients
from pipeline.errors import ClusterError
from pipeline.runtime.placement import Placement, placement
from pipeline.scaling import calibration
from pipeline.scaling.compute_calibration import GRID, TYPICAL, Fit, solve
from pipeline.scaling.network_calibration import ring_of
from tests.scaling.examples import MACHINE

SECTION = Cluster(device="cpu", workers=2, threads=1)
TRUE = dataclasses.replace(
    TYPICAL, **{name: getattr(TYPICAL, name) * factor for name, factor in (("row_feature", 1.5), ("bin_node", 0.7))}
)


def fits(coefficients: Coefficients, slower: float = 1.0) -> list[Fit]:
    """What a machine of such coefficients would have measured."""
    found = []
    for rows, features, bins, depths in GRID:
        for depth in depths:
            workload = Workload((rows,), features, bins * features, depth)
            tree = expected_tree(workload)
            seconds = slower * coefficients.seconds(work(rows, workload, tree))
            found.append(Fit(rows, features, workload.bins, depth, seconds, tree))
    return found


def test_made_up_coefficients_are_found() -> None:
    solved = solve([fits(TRUE)], typical=None)
    assert dataclasses.asdict(solved.coefficients) == {
        name: pytest.approx(getattr(TRUE, name), rel=1e-3) for name in COEFFICIENTS
    }
    assert solved.spread < 1e-6


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_typical_proportions_help_and_do_not_bind(scale: float) -> None:
    machine = Coefficients(**{name: scale * getattr(TRUE, name) for name in COEFFICIENTS})
    solved = solve([fits(machine), fits(machine)])
    assert solved.spread < 0.02
    elsewhere = Workload((150_000,), 48, 48 * 253, 6)
    tree = expected_tree(elsewhere)
    amounts = work(150_000, elsewhere, tree)
    assert solved.coefficients.seconds(amounts) == pytest.approx(machine.seconds(amounts), rel=0.03)


def test_a_slow_worker_is_distinguished_from_noise() -> None:
    solved = solve([fits(TRUE), fits(TRUE, slower=2.0), fits(TRUE, slower=1.03)])
    first, slow, noisy = solved.capabilities
    assert slow == pytest.approx(first / 2, rel=0.05)
    assert first == pytest.approx(noisy, rel=1e-9)
    updates = sum(fit.rows * fit.features * fit.depth for fit in fits(TRUE))
    assert noisy == pytest.approx(updates / sum(fit.seconds for fit in fits(TRUE, slower=1.03)), rel=1e-6)


def test_a_busy_moment_is_not_part_of_the_machine() -> None:
    quiet = solve([[dataclasses.replace(fit, delay=0.02) for fit in fits(TRUE)]])
    busy = solve([[dataclasses.replace(fit, delay=13.4) for fit in fits(TRUE)]])
    assert busy.coefficients == quiet.coefficients
    assert quiet.delay == 0.02
    assert quiet.busy == 1.0
    assert busy.delay <= 0.1
    assert busy.busy == pytest.approx(14.4 / 1.1)
    crowded = solve([[dataclasses.replace(fit, delay=0.9) for fit in fits(TRUE)]], oversubscribed=True)
    assert (crowded.delay, crowded.busy) == (0.9, 1.0)


def test_a_busy_machine_is_reported_in_a_line_of_its_own() -> None:
    assert calibration.busy_notes(dataclasses.replace(MACHINE, busy=1.0)) == ()
    (note,) = calibration.busy_notes(dataclasses.replace(MACHINE, busy=3.04))
    assert note.startswith("this machine is busy now: rounds take 3.0 x as long")


def test_the_ring_is_found_in_its_own_tables() -> None:
    ring = MACHINE.ring
    tables = {count: tuple((size, ring.seconds(size, count)) for size in (16, 4096, 1 << 20)) for count in (2, 3)}
    found = ring_of(tables)
    assert (found.alpha, found.beta) == (pytest.approx(ring.alpha), pytest.approx(ring.beta))
    assert ring_of({}).seconds(1 << 20, 8) == 0


@pytest.fixture
def where(client: Any) -> Placement:
    return placement(client, SECTION)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Calibrations are kept in a folder of the test's, and made by noting what was asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made: list[Any] = []

    def calibrate(client: Any, where: Placement, sizes: Any) -> Any:
        made.append(sizes)
        hours_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=3)
        return dataclasses.replace(MACHINE, made=hours_ago.isoformat(), collectives=dict.fromkeys(sizes, ((16, 1e-4),)))

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    return made


def test_a_calibration_is_kept_and_says_its_age(client: Any, where: Placement, kept: list[Any], tmp_path: Path) -> None:
    first, (note, *_) = calibration.load_or_calibrate(client, where, [2])
    assert "calibrated in 9.0 s" in note
    (file,) = (tmp_path / "dask-train-pipeline" / "calibrations").iterdir()
    assert file.stem == calibration.fingerprint_of(client, where)
    again, (note,) = calibration.load_or_calibrate(client, where, [1, 2])
    assert again == first
    assert note == "calibration of 3 hours ago; --recalibrate makes a new one"
    assert len(kept) == 1
    calibration.load_or_calibrate(client, where, [2], recalibrate=True)
    assert len(kept) == 2


def test_what_is_missing_or_unreadable_is_made_again(
    client: Any, where: Placement, kept: list[Any], tmp_path: Path
) -> None:
    calibration.load_or_calibrate(client, where, [])
    calibration.load_or_calibrate(client, where, [2])  # the collectives of two were not measured
    assert len(kept) == 2
    (file,) = (tmp_path / "dask-train-pipeline" / "calibrations").iterdir()
    for text in ("{", json.dumps({**MACHINE.to_dict(), "version": 0}), "[]"):
        file.write_text(text)
        calibration.load_or_calibrate(client, where, [2])
    assert len(kept) == 5


def test_other_threads_are_another_machine(client: Any, where: Placement) -> None:
    other = dataclasses.replace(where, workers=tuple(dataclasses.replace(w, threads=2) for w in where.workers))
    names = {calibration.fingerprint_of(client, one) for one in (where, other, where)}
    assert len(names) == 2


@pytest.mark.slow
def test_a_small_real_calibration(client: Any, where: Placement) -> None:
    machine = calibration.calibrate(client, where, [2], grid=((5_000, 8, 253, (3, 5)), (20_000, 16, 40, (4,))))
    assert machine.seconds < 60
    assert all(getattr(machine.coefficients, name) >= 0 for name in COEFFICIENTS)
    assert machine.coefficients.seconds(dict.fromkeys(COEFFICIENTS, 1.0)) > 0
    assert len(machine.capabilities) == 2
    assert all(1e6 < capability < 1e11 for capability in machine.capabilities)
    sizes, seconds = zip(*machine.collectives[2], strict=True)
    assert sizes[0] == 16
    assert sizes[-1] >= 1 << 20
    assert list(seconds) == sorted(seconds)
    assert seconds[0] > 1e-6
    assert machine.ring.alpha >= 0 < machine.ring.beta
    assert machine.dask_task_seconds > 0
    assert machine.dask_bytes_per_second > 1e6
    assert type(machine).from_dict(json.loads(json.dumps(machine.to_dict()))) == machine
    predicted = predict(machine, Workload((10_000, 10_000), 8, 8 * 253, 4))
    assert 1e-5 < predicted.seconds < 1
    assert 0 < predicted.figures.PE < 1


def test_a_worker_that_fails_is_reported(client: Any, where: Placement) -> None:
    with pytest.raises(ClusterError, match="cannot be calibrated"):
        calibration.calibrate(client, where, [2], grid=((1_000, 4, 253, (-1,)),))


def test_unequal_workers_are_predicted_in_their_own_seconds() -> None:
    for slower in ((1.0, 1.5), (1.5, 1.0), (1.0, 1.5, 1.5)):
        solved = solve([fits(TRUE, slower=factor) for factor in slower], typical=None)
        machine = dataclasses.replace(
            MACHINE, coefficients=solved.coefficients, capabilities=solved.capabilities, typical=solved.typical
        )
        even = Workload((100_000,) * len(slower), 32, 32 * 253, 6)
        amounts = work(100_000, even, expected_tree(even))
        expected = [factor * TRUE.seconds(amounts) for factor in slower]
        assert [split.useful for split in predict(machine, even).splits] == pytest.approx(expected, rel=0.01)
