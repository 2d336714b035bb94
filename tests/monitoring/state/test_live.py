"""The efficiency now, against figures worked out by hand."""

from typing import Any

import pytest

from pipeline.events.types import Place, Placed, WorkerLost, WorkerRounds
from pipeline.monitoring.alarms.efficiency import EfficiencySignals
from pipeline.monitoring.state.live import LiveFigures, figures_of
from pipeline.monitoring.state.run_state import RunState
from pipeline.monitoring.state.run_store import RunStore
from tests.dashboard import recorded
from tests.monitoring.state.test_run_store import filled, worker_rounds


def run_of(*workers: dict[str, Any], placed: bool = True, device: str = "cpu") -> RunState:
    """Ten rounds of one second; of each worker: name, cpu and more."""
    board = RunStore()
    if placed:
        places = tuple(
            Place(worker=each["name"], rows=1, share=0.5, capability=each.get("capability", 0.5), threads=1,
                  memory_limit_nbytes=0, planned_nbytes=0) for each in workers
        )  # fmt: skip
        board.apply("a", Placed(time=0.0, workers=places, device=device))
    for number in range(1, 11):
        for each in workers:
            board.apply("a", WorkerRounds(
                time=float(number), worker=each["name"], first=number, round=number, seconds=1.0,
                cpu_seconds=each["cpu"], runqueue_seconds=each.get("queue", 0.0), bytes_sent=each.get("sent", 1_000),
                memory_nbytes=1, gpu_utilisation=each.get("gpu"),
            ))  # fmt: skip
    return board.runs["a"]


def live_of(run: RunState, **how: Any) -> LiveFigures:
    live = figures_of(run, **how)
    assert live is not None
    return live


def test_two_workers_by_hand() -> None:
    live = live_of(run_of({"name": "0", "cpu": 0.5, "queue": 0.1}, {"name": "1", "cpu": 0.8}))
    slow, fast = live.workers[1], live.workers[0]
    assert (live.seconds, live.rounds) == (pytest.approx(1.0), 10)
    assert (fast.useful, fast.other, fast.transfer, fast.wait) == pytest.approx((0.5, 0.1, 0.2, 0.2))
    assert (slow.useful, slow.other, slow.transfer, slow.wait) == pytest.approx((0.8, 0.0, 0.2, 0.0))
    assert live.PE == pytest.approx(0.65)
    assert live.LB == pytest.approx(0.8125)
    assert live.TE == pytest.approx(0.8)
    assert live.SerE == pytest.approx(1.0)
    assert live.E == pytest.approx(0.65 * (0.5 / 0.5 + 0.5 / 0.2))
    assert live.J == pytest.approx((0.5 / 0.5 + 0.5 / 0.2) * 0.35)
    assert live.straggler == "1"
    assert slow.bytes_per_round == 1_000


def test_the_parts_are_all_of_the_time_and_the_factors_multiply() -> None:
    run = filled(recorded.binary()).runs["flights-3f2a"]
    for since_start in (False, True):
        live = live_of(run, since_start=since_start)
        for worker in live.workers:
            parts = (worker.useful, worker.transfer, worker.wait, worker.other)
            assert sum(part or 0.0 for part in parts) == pytest.approx(live.seconds)
            assert min(part or 0.0 for part in parts) >= 0
        assert live.PE == pytest.approx((live.LB or 0) * (live.SerE or 0) * (live.TE or 0))


def test_one_worker_has_no_wait() -> None:
    live = live_of(run_of({"name": "0", "cpu": 0.9}))
    (worker,) = live.workers
    assert (worker.useful, worker.transfer, worker.wait, worker.other) == pytest.approx((0.9, 0.0, 0.0, 0.1))
    assert (live.PE, live.E, live.J, live.straggler) == (pytest.approx(0.9), None, None, None)


def test_a_gpu_is_not_measured_by_the_processors_clock() -> None:
    live = live_of(run_of({"name": "0", "cpu": 0.1, "gpu": 0.9}, {"name": "1", "cpu": 0.1, "gpu": 0.8}))
    assert (live.PE, live.E, live.J, live.LB, live.straggler) == (None,) * 5
    assert live.workers[0].useful is None
    assert live.workers[0].bytes_per_round == 1_000
    assert live.seconds == pytest.approx(1.0)


def test_nor_is_one_whose_library_is_missing() -> None:
    said = [{"name": "0", "cpu": 0.05}, {"name": "1", "cpu": 0.06}]
    assert live_of(run_of(*said)).PE == pytest.approx(0.055)
    live = live_of(run_of(*said, device="cuda"))
    assert (live.PE, live.E, live.J, live.LB, live.straggler, live.workers[0].useful) == (None,) * 6


def test_alarms_have_no_figures_of_a_gpu() -> None:
    told = []
    for device in ("cpu", "cuda"):
        efficiency = EfficiencySignals()
        place = Place(worker="0", rows=1, share=1, capability=1, threads=1, memory_limit_nbytes=0, planned_nbytes=0)
        efficiency.take("a", Placed(time=0.0, workers=(place,), device=device))
        efficiency.take("a", worker_rounds("0", 1, 1.0, cpu_seconds=0.05))
        told.append(efficiency.values("a").keys() >= {"pe"})
    assert told == [True, False]


def test_capabilities_weigh_and_may_be_unknown() -> None:
    known = live_of(run_of({"name": "0", "cpu": 0.5, "capability": 0.1}, {"name": "1", "cpu": 0.8, "capability": 0.9}))
    assert known.E == pytest.approx(0.65 * (0.1 / 0.5 + 0.9 / 0.2))
    unknown = live_of(run_of({"name": "0", "cpu": 0.5}, {"name": "1", "cpu": 0.8}, placed=False))
    assert unknown.E == pytest.approx(0.65 * (0.5 / 0.5 + 0.5 / 0.2))


def test_more_compute_than_time_is_a_clocks_noise() -> None:
    live = live_of(run_of({"name": "0", "cpu": 1.001}, {"name": "1", "cpu": 1.002}))
    assert live.PE == pytest.approx(1.0)
    assert live.E is None  # saturated


def test_a_lost_worker_is_not_looked_at() -> None:
    board = RunStore()
    run = board.runs.setdefault("a", run_of({"name": "0", "cpu": 0.5}, {"name": "1", "cpu": 0.8}))
    board.apply("a", WorkerLost(time=20.0, worker="1", stage="rounds", round=10, reason="killed"))
    assert [worker.name for worker in live_of(run).workers] == ["0"]


def test_nothing_is_emitted_before_the_first_rounds() -> None:
    assert figures_of(RunState("a")) is None


def test_bytes_may_be_unknown() -> None:
    live = live_of(run_of({"name": "0", "cpu": 0.5, "sent": None}, {"name": "1", "cpu": 0.5}))
    assert [worker.bytes_per_round for worker in live.workers] == [None, 1_000]
