"""The meter of small trainings, and the split of hand-made records."""

import dataclasses
import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.efficiency import sockets
from pipeline.efficiency.round_meter import Meter, MeterRecord, Replay, Setting
from pipeline.efficiency.split import VARIES_SECONDS, seconds_of, worker_samples
from pipeline.efficiency.summary import summary
from pipeline.efficiency.traffic import Call, GrownTree, Growth, calls_of_round, ring_nbytes, sent_nbytes
from pipeline.scaling.synthetic import Synthetic
from pipeline.training.xgboost.rounds import train_rounds
from tests.efficiency.trained import expected_nbytes, partition_of, spec_of, train

DATA = Synthetic(rows=20_000, features=8, depth=4)
GROWTH = Growth(bins=1_000, depth=3)
TREE = GrownTree((1, 2, 3))
ROUNDS = 5


def record(rank: int, workers: int = 2, **options: Any) -> MeterRecord:
    """Rounds of 20 ms: 12 ms of CPU, 2 ms of it in collectives (8 ms in all), and no wait."""
    calls = calls_of_round(GROWTH, [TREE])
    sent = sent_nbytes(calls, workers, rank)
    cost = 0.008 / sum(call.elements for call in calls)  # a second per element, from nothing on
    replays = tuple(Replay(size, 3, cost * size, cost * size / 4, cost * size / 8) for size in (2, 2_000, 4_000))
    made = MeterRecord(
        rank=rank, workers=workers, rows=1_000, threads=1, method="thread-cpu", growth=GROWTH, trees_per_round=1,
        adaptive=0, wall=np.full(ROUNDS, 0.018), cpu=np.full(ROUNDS, 0.012), runqueue=np.full(ROUNDS, 0.001),
        between=np.zeros(ROUNDS), grown=np.full(ROUNDS, 0.012), bytes_sent=np.full(ROUNDS, sent), replays=replays if workers > 1 else (),
        collectives={}, cost_seconds=0.0, replay_seconds=0.0, missing=(),
        trees=((TREE,),) * ROUNDS if rank == 0 else (),
    )  # fmt: skip
    return dataclasses.replace(made, **options)


def test_each_part_by_its_own_means() -> None:
    """Rank 1 computes 5 ms longer: rank 0 waits for it."""
    slow = record(1, cpu=np.full(ROUNDS, 0.017), wall=np.full(ROUNDS, 0.023))
    quick = record(0, wall=np.full(ROUNDS, 0.023))
    one, other = worker_samples([slow, quick], ["a", "b"])
    assert (one.rank, one.worker, other.rank, other.worker) == (0, "a", 1, "b")
    assert dataclasses.astuple(one.split) == pytest.approx((0.010, 0.008, 0.005, 0.0))
    assert dataclasses.astuple(other.split) == pytest.approx((0.015, 0.008, 0.0, 0.0))
    assert one.closure == pytest.approx(0, abs=1e-9)
    assert other.closure == pytest.approx(0, abs=1e-9)
    assert one.bytes_sent == one.bytes_expected


def test_workers_that_wait_in_turn() -> None:
    """Rank 0 grows trees 5 ms longer, rank 1 measures 5 ms longer: each waits for the other."""
    cpu, wall = np.full(ROUNDS, 0.017), np.full(ROUNDS, 0.028)
    grower = record(0, cpu=cpu, grown=cpu, wall=wall)
    measurer = record(1, cpu=cpu, wall=wall)
    one, other = worker_samples([grower, measurer], ["a", "b"])
    assert dataclasses.astuple(one.split) == pytest.approx((0.015, 0.008, 0.005, 0.0))
    assert dataclasses.astuple(other.split) == pytest.approx((0.015, 0.008, 0.005, 0.0))
    assert one.closure == pytest.approx(0, abs=1e-9)


def test_closure_is_an_error_and_no_remainder() -> None:
    (one, _) = worker_samples([record(0, wall=np.full(ROUNDS, 0.020)), record(1)], ["a", "b"])
    assert one.closure == pytest.approx(0.1)  # 18 of 20 ms are found
    assert one.seconds == pytest.approx(0.020)


def test_delays_beyond_the_collectives_own() -> None:
    """One round was held up for 30 ms by another program: its worker's other time, and the peer's waiting."""
    queue, wall = np.full(ROUNDS, 0.001), np.full(ROUNDS, 0.018)
    queue[2] += 0.030 + VARIES_SECONDS
    wall[2] += 0.030
    held, peer = worker_samples([record(0, runqueue=queue, wall=wall), record(1, wall=wall)], ["a", "b"])
    assert held.split.other * ROUNDS == pytest.approx(0.030)
    assert peer.split.wait * ROUNDS == pytest.approx(0.030)
    assert held.closure == pytest.approx(0, abs=1e-9)
    assert peer.closure == pytest.approx(0, abs=1e-9)


def test_the_time_between_rounds_and_dropped_rounds() -> None:
    between = np.array([0.0, 0.1, 0.002, 0.002, 0.002])
    wall = np.array([1.0, 1.0, 0.018, 0.018, 0.018])
    made = record(0, between=between, wall=wall)
    assert seconds_of(made, 2) == pytest.approx(3 * 0.018 + 2 * 0.002)  # from the begin of the third
    (one, _) = worker_samples([made, record(1, wall=wall, between=between)], ["a", "b"], first=2)
    assert one.split.other == pytest.approx(2 * 0.002 / 3)
    assert one.closure == pytest.approx(0, abs=1e-9)


def test_without_the_trees_bytes_give_the_exchanges() -> None:
    """Cost in proportion to size: the mean exchange does as well as each of them."""
    light = [record(rank, trees=()) for rank in range(2)]
    (one, _) = worker_samples(light, ["a", "b"])
    assert one.split.transfer == pytest.approx(0.008, rel=0.01)
    assert one.bytes_expected is None


def test_one_worker_neither_transfers_nor_waits() -> None:
    (one,) = worker_samples([record(0, workers=1, bytes_sent=None)], ["a"])
    assert (one.split.transfer, one.split.wait) == (0.0, 0.0)
    assert one.split.useful == pytest.approx(0.012)
    assert one.split.other == pytest.approx(0.018 - 0.012)  # off the CPU: in a queue, or waiting for threads
    assert one.closure == pytest.approx(0, abs=1e-9)


def test_a_thread_of_a_gpu_shows_nothing_by_itself() -> None:
    wall = [record(rank, method="wall", replays=()) for rank in range(2)]
    one, _ = worker_samples(wall, ["a", "b"])
    assert (one.method, one.closure, one.split.useful) == ("wall", None, pytest.approx(0.018))
    one, _ = worker_samples(wall, ["a", "b"], reference=0.015)
    assert (one.method, one.split.transfer) == ("differential", pytest.approx(0.003))
    assert summary(wall, ["a", "b"], features=8)["figures"] is None


def test_the_summary_is_small_and_plain() -> None:
    made = summary([record(1), record(0)], ["a", "b"], features=8)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert [worker["worker"] for worker in made["workers"]] == ["a", "b"]
    assert made["figures"]["PE"] == pytest.approx(10 / 18)
    assert summary([], [], features=8) == {}


def setting(**options: Any) -> Setting:
    return dataclasses.replace(Setting(GROWTH, 1, 0, rows=1_000, threads=1, full=False), **options)


def test_repetitions_that_another_program_disturbed_are_left_out() -> None:
    samples = np.array([[0.010, 0.001, 0.0], [0.011, 0.003, 0.0], [0.500, 0.004, 0.4]])
    meter = Meter(setting(full=True), 1, 2, lambda values: values + np.flip(values, 0) * 0.9, sockets.Traffic())
    with meter.round():
        pass
    meter.replay(lambda *arguments: samples)
    replay = meter.record().replays[0]
    assert (replay.elements, replay.repetitions) == (2, 2)
    assert replay.seconds == pytest.approx(0.9 * 0.0105)  # of the rank that came last, which is the other here
    assert (replay.cpu_seconds, replay.runqueue_seconds) == (pytest.approx(0.002), 0.0)
    meter.close()


def test_where_the_system_reports_less() -> None:
    traffic = sockets.Traffic(missing="bytes sent by XGBoost (darwin has no TCP_INFO)")
    meter = Meter(setting(), 0, 2, lambda values: values, traffic, schedstat=lambda: None)
    with meter.round():
        meter.trees()
    made = meter.record()
    assert made.missing == ("bytes sent by XGBoost (darwin has no TCP_INFO)", "run-queue delay (no schedstat)")
    assert made.bytes_sent is None
    assert meter.wants_trees  # they give the exchanges instead
    meter.close()


def test_alone_nothing_is_missing() -> None:
    spec = spec_of(DATA, "binary:logistic", {"max_depth": 4}, full_meter=False, metrics=("logloss",), rounds=3)
    result = train_rounds(partition_of(DATA, "binary:logistic", 0, DATA.rows), spec)
    made = result.meter
    assert made is not None
    assert (made.rank, made.workers, made.rows, made.rounds) == (0, 1, DATA.rows, 3)
    assert (made.missing, made.replays, made.bytes_sent, made.trees) == ((), (), None, ())
    assert (made.cpu > 0).all()
    assert (made.cpu <= made.wall * 1.05).all()
    (sample,) = worker_samples([made], ["alone"])
    assert sample.closure is not None


def test_every_training_carries_the_meter(make_cluster: Callable[[int, int], Any]) -> None:
    trained = train(make_cluster(3, 1), 3, DATA, metrics=("logloss", "auc"), full_meter=False, rounds=12)
    assert [meter.rank for meter in trained.meters] == [0, 1, 2]
    for meter in trained.meters:
        assert meter.rounds == 12
        assert meter.missing == ()
        assert meter.trees == ()
        assert meter.bytes_sent is not None
        assert [replay.elements for replay in meter.replays] == [r.elements for r in trained.meters[0].replays]
        assert set(meter.collectives) == {2, 2 * 65_536}  # log loss, and the counts of the binned area
        assert all(replay.seconds > 0 for replay in meter.replays)
        assert len(pickle.dumps(meter)) < 5_000
    one = Call(2 * trained.meters[0].growth.bins)
    assert trained.meters[0].bytes_sent is not None
    assert trained.meters[0].bytes_sent.min() > ring_nbytes(one, 3, 0)
    made = summary(trained.meters, ["a", "b", "c"], features=DATA.features)
    assert 0 <= made["figures"]["PE"] < 1
    assert made["figures"]["identity_error"] < 1e-9
    for sample in worker_samples(trained.meters, ["a", "b", "c"], first=4):
        assert sample.closure is not None  # how small it is on a quiet machine: benchmarks/results
        assert 0 <= sample.closure < np.inf
        assert sample.meter_share > 0


def test_bytes_of_replays_and_metrics_are_not_counted(make_cluster: Callable[[int, int], Any]) -> None:
    """Two trainings of the same trees, one measuring its metrics in between: as many bytes."""
    client = make_cluster(3, 1)
    bare = train(client, 2, DATA, rounds=6).meters
    measured = train(client, 2, DATA, rounds=6, metrics=("auc",)).meters
    for rank in range(2):
        one, other = bare[rank].bytes_sent, measured[rank].bytes_sent
        assert one is not None
        assert other is not None
        assert one.tolist() == other.tolist() == expected_nbytes(bare, rank)
