"""The protocol of a scaling run on a small cluster: predictions first, turns, lost workers, what is on the disk."""

import dataclasses
import json
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cluster import affinity
from pipeline.config.job import Cluster, Job
from pipeline.efficiency.machine import Coefficients, Fill, Machine, Ring
from pipeline.efficiency.records import read
from pipeline.errors import ClusterError, DataError, PipelineError
from pipeline.events.types import Event, Note, discard
from pipeline.run.connect import connect
from pipeline.run.metadata import resolve
from pipeline.runtime.placement import Placement, placement
from pipeline.runtime.sessions import held
from pipeline.scaling import experiment
from pipeline.scaling.baseline_process import ProcessAssignment, SingleProcess
from pipeline.scaling.experiment import ExperimentContext, measure
from pipeline.scaling.plan import Plan
from pipeline.scaling.sample_record import column_share, of_ranks, per_round, trees_per_round
from pipeline.scaling.synthetic import Synthetic, make_blocks
from pipeline.scaling.workloads import JobWorkload, ScalingLayout, SyntheticWorkload

SECTION = Cluster(device="cpu", workers=2, threads=1)
DATA = Synthetic(rows=6_000, features=4, depth=3)
FILE_ROWS = 60_000  # more than a MiB, the smallest fragment
MACHINE = Machine(
    fingerprint="x", made="2026-11-21T00:00:00+00:00", device="cpu", threads=1,
    coefficients=Coefficients(row_feature=1e-9, row_split=4e-9, row=2e-9, bin_node=1e-8, tree=1e-5), capabilities=(1e9, 5e8),
    collectives={2: ((16, 1e-5), (1 << 20, 1e-3))}, ring=Ring(1e-6, 1e-9), fill=Fill(),
    dask_task_seconds=1e-4, dask_bytes_per_second=1e9, spread=0.05, seconds=1.0,
)  # fmt: skip
SMALL = Plan(workers=(1, 2), repeat=2, rounds=3)


def bench(client: Any, subject: Any = None, **options: Any) -> ExperimentContext:
    return ExperimentContext(
        client, subject or SyntheticWorkload(client, DATA), lambda: placement(client, SECTION), None, **options
    )


def test_rows_are_the_same_for_any_layout() -> None:
    data = Synthetic(rows=200_000, features=3, classes=4)
    whole = make_blocks(data, 0, 200_000)
    parts = [
        block for edges in ((0, 50_000), (50_000, 131_072), (131_072, 200_000)) for block in make_blocks(data, *edges)
    ]
    for name in ("codes", "label", "row_ids"):
        joined = [np.concatenate([getattr(block, name) for block in blocks]) for blocks in (whole, parts)]
        np.testing.assert_array_equal(*joined)
    assert set(np.unique(whole[0].label)) == {0, 1, 2, 3}
    assert 0.4 < make_blocks(DATA, 0, 65_536)[0].label.mean() < 0.6


@pytest.mark.slow
def test_every_sample_is_on_the_disk(client: Any, tmp_path: Path) -> None:
    heard: list[Event] = []
    made = measure(
        bench(client, folder=tmp_path, on_event=heard.append), dataclasses.replace(SMALL, modes=("strong", "weak"))
    )
    assert read(tmp_path).points == made.points
    shapes = [(p.configuration.mode, p.configuration.rows, len(p.samples)) for p in made.points]
    assert shapes == [
        ("strong", (6_000,), 2), ("strong", (3_000, 3_000), 2), ("weak", (6_000,), 2), ("weak", (6_000, 6_000), 2),
    ]  # fmt: skip
    for point in made.points:
        assert point.configuration.bins == 4 * 254
        for sample in point.samples:
            assert len(sample.round_seconds) == 3
            assert len(sample.workers) == point.configuration.workers
            assert sample.figures.identity_error < 1e-9
            assert sample.seconds == max(worker.seconds for worker in sample.workers)
            for worker in sample.workers:
                assert point.configuration.workers == 1 or worker.bytes_sent == worker.bytes_expected
    assert [(single.mode, single.rows, len(single.seconds)) for single in made.singles] == [
        ("strong", 6_000, 2), ("weak", 12_000, 2),
    ]  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == 4 * 2 * 6
    assert sum(isinstance(event, Note) for event in heard) == 2 * (4 + 2)


def test_points_take_turns(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []
    real = experiment.train_once

    def noted(client: Any, partitions: Any, workers: Any, spec: Any) -> Any:
        order.append(len(workers))
        assert (spec.metrics, spec.early_stopping, spec.rounds, spec.full_meter) == ((), 0, 5, True)
        return real(client, partitions, workers, spec)

    monkeypatch.setattr(experiment, "train_once", noted)
    measure(bench(client), dataclasses.replace(SMALL, repeat=3, single=False))
    assert order == [1, 2, 2, 1, 1, 2]


def test_predictions_are_on_the_disk_before_the_first_sample(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[Any] = []
    real = experiment.train_once

    def noted(*arguments: Any) -> Any:
        before.append(read(tmp_path).points)
        return real(*arguments)

    monkeypatch.setattr(experiment, "train_once", noted)
    made = measure(
        dataclasses.replace(bench(client), folder=tmp_path, machine=MACHINE), dataclasses.replace(SMALL, single=False)
    )
    assert [len(point.samples) for point in before[0]] == [0, 0]
    for point, first in zip(made.points, before[0], strict=True):
        assert point.predicted is not None
        assert point.predicted == first.predicted
        assert point.predicted.time <= min(sample.time for sample in point.samples)
    even = made.points[1].samples[0]
    assert even.figures.E_raw is None or not even.figures.E or even.figures.E_raw > even.figures.E * 1e9
    assert read(tmp_path).calibration["fingerprint"] == "x"


def test_ranks_keep_their_workers_capability() -> None:
    assert of_ranks(MACHINE, [1, 0]).capabilities == (5e8, 1e9)
    assert of_ranks(MACHINE, [0, 1, 2]).capabilities == (1e9, 5e8, 5e8)


def test_elsewhere_the_base_case_runs_in_a_worker(client: Any) -> None:
    there = dataclasses.replace(
        bench(client), place=lambda: dataclasses.replace(placement(client, SECTION), local=False)
    )
    made = measure(there, dataclasses.replace(SMALL, workers=(2,), repeat=1))
    (single,) = made.singles
    assert (single.rows, single.threads, len(single.seconds)) == (6_000, 1, 1)
    assert "in one worker" in single.note


def test_oversubscribed_points_say_so(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affinity, "cores", lambda: 1)
    made = measure(bench(client), dataclasses.replace(SMALL, repeat=1, single=False))
    assert [point.configuration.oversubscribed for point in made.points] == [False, True]
    assert made.notes == ("oversubscribed: 2 threads on 1 core; such points do not count for the model",)


def test_uneven_shares(client: Any) -> None:
    made = measure(bench(client), dataclasses.replace(SMALL, repeat=1, shares=(0.25, 0.75), single=False))
    assert [point.configuration.rows for point in made.points] == [(6_000,), (1_500, 4_500)]


def test_too_many_workers_and_too_few_rows(client: Any) -> None:
    with pytest.raises(ClusterError, match="--workers 1,2,4, but the cluster has 2"):
        measure(bench(client), Plan(workers=(1, 2, 4)))
    few = SyntheticWorkload(client, dataclasses.replace(DATA, rows=1_500))
    with pytest.raises(DataError, match="gets 750 rows, 1,000 are needed"):
        measure(bench(client, few), SMALL)


def test_a_run_that_is_interrupted_keeps_its_samples(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = experiment.train_once, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(experiment, "train_once", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(bench(client, folder=tmp_path), dataclasses.replace(SMALL, single=False))
    assert [len(point.samples) for point in read(tmp_path).points] == [1, 0]


@pytest.mark.slow
def test_a_lost_worker_is_waited_for_and_the_repetition_repeated(tmp_path: Path) -> None:
    heard: list[Event] = []
    with connect(SECTION) as client:
        pids = client.run(os.getpid)
        killer = threading.Timer(0.5, os.kill, (next(iter(pids.values())), signal.SIGKILL))
        plan = Plan(workers=(2,), repeat=1, rounds=400, single=False)

        class Killing(SyntheticWorkload):
            """Kills a worker soon after its matrices are built for the first time."""

            def layout(self, where: Placement, rows: int, shares: Sequence[float] = ()) -> ScalingLayout:
                made = super().layout(where, rows, shares)
                if not killer.is_alive() and not killer.finished.is_set():
                    killer.start()
                return made

        def place() -> Placement:
            return placement(client, SECTION)

        def listen(event: Event) -> None:
            heard.append(event)

        subject = Killing(client, Synthetic(rows=200_000, features=8))
        result = measure(ExperimentContext(client, subject, place, None, listen, tmp_path), plan)
    assert result.points[0].samples[0].retried
    assert "was lost" in result.notes[0]
    assert "repeated once" in result.notes[0]


@pytest.mark.slow
def test_a_job_is_laid_out_as_a_training_of_it(make_cluster: Callable[[int, int], Any], tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    client, rng = make_cluster(2, 1), np.random.default_rng(0)
    for number in range(4):
        columns = {
            "a": rng.random(FILE_ROWS),
            "b": rng.integers(0, 5, FILE_ROWS).astype(str),
            "w": rng.random(FILE_ROWS),
        }
        table = pa.table({**columns, "y": (columns["a"] > 0.5).astype(np.int8)})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    job = Job.parse(
        {
            "data": {
                "source": str(tmp_path),
                "target": "y",
                "weight": "w",
                "validation": {"share": 0.25},
                "fragment_mib": 1,
            },
            "training": {"params": {"max_depth": 3}, "row_sample": 0.5},
            "cluster": {"workers": 2, "threads": 1},
        }
    )
    subject = JobWorkload(client, resolve(job), placement(client, SECTION), discard)
    try:
        kept, _ = held(client)
        assert f"registered by {client.id}" in [one.what for one in kept]  # else nobody closes it if the client dies
        made = measure(bench(client, subject), dataclasses.replace(SMALL, modes=("strong", "weak"), repeat=1))
    finally:
        subject.close()
    rows = [point.configuration.rows for point in made.points]
    assert rows[0] == (sum(rows[1]),)
    assert 0.74 < sum(rows[1]) / (4 * FILE_ROWS) < 0.76
    assert (rows[2], rows[3]) == ((rows[1][0],), rows[1])
    assert {single.rows for single in made.singles} == {sum(rows[1])}
    configuration = made.points[0].configuration
    assert (configuration.depth, configuration.row_share, configuration.objective) == (3, 0.5, "binary:logistic")
    assert configuration.bins == 254 + 5
    assert made.points[1].samples[0].workers[0].bytes_sent == made.points[1].samples[0].workers[0].bytes_expected


def test_the_single_process_says_why_it_ended(tmp_path: Path) -> None:
    broken = ProcessAssignment(1, (), {"run": "x", "params": {}, "rounds": 1, "metrics": []}, None, str(tmp_path))
    with (
        pytest.raises(PipelineError, match=r"single process ended with exit code 1: .*cuts.npz"),
        SingleProcess(broken),
    ):
        pass


def test_what_the_model_must_know_of_parameters() -> None:
    assert trees_per_round({"objective": "binary:logistic"}) == 1
    assert trees_per_round({"objective": "multi:softprob", "num_class": 5}) == 5
    assert trees_per_round({"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]}) == 2
    assert column_share({"colsample_bytree": 0.5, "colsample_bynode": 0.5}) == 0.25
    assert per_round([9.0, 9.0, 1.0, 3.0], 2) == 2.0
