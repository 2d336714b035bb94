"""The account of a training: arithmetic on made-up readings, and real runs whose books close."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.config.job import Job
from pipeline.efficiency.account import (
    KINDS,
    STAGE_BY_TASK_PREFIX,
    MissingReading,
    Rounds,
    TaskTime,
    TimeSlice,
    WorkerReading,
    account,
    sentence,
)
from pipeline.efficiency.records import TimeSplit
from pipeline.runtime import recorder
from pipeline.runtime.placement import WorkerInfo
from pipeline.runtime.recorder import TimeAccountant, WorkerTime
from pipeline.runtime.task_ledger import RUN, Ledger, annotate_run, timed_section
from pipeline.runtime.timing import StageTimer, span

ONE = WorkerReading(  # 10 s: 2 s reading and computing statistics, 5 s of rounds, then 1 s of evaluation while the other waits
    worker="0",
    slots=1,
    seconds=10.0,
    tasks=(TaskTime("collect_unit", 2.0, 2.0), TaskTime("rounds", 5.0, 5.0), TaskTime("evaluate", 1.0, 1.0)),
    others=0.0,
    transfer=0.1,
    free=1.9,
    parts=(
        TimeSlice("reading", 1.0, 0.6, 0.6),
        TimeSlice("statistics", 0.9, 0.8, 0.8),
        TimeSlice("bootstrap", 0.2, 0.0, 0.0),
        TimeSlice("rounds", 4.7, 4.0, 4.1),
        TimeSlice("evaluate", 1.0, 1.0, 1.0),
    ),
    cpu=2.45,
    off_cpu=0.5,
    wide=4.9,
    overhead=0.15,
)
OTHER = replace(
    ONE,
    worker="1",
    tasks=(TaskTime("collect_unit", 1.5, 1.5), TaskTime("rounds", 5.0, 5.0)),
    transfer=0.0,
    free=3.5,
    parts=(
        TimeSlice("reading", 1.0, 0.6, 0.6),
        TimeSlice("statistics", 0.5, 0.5, 0.5),
        TimeSlice("rounds", 5.0, 2.0, 2.1),
    ),
    cpu=1.1,
    off_cpu=0.4,
    wide=5.0,
    overhead=0.0,
)
ROUNDS = {
    "0": Rounds(4.7, useful=3.9, transfer=0.5, wait=0.0, other=0.2),
    "1": Rounds(4.7, useful=2.0, transfer=0.5, wait=2.0, other=0.2),
}
CLIENT = {"metadata": 0.2, "statistics": 2.3, "rounds": 5.4, "evaluate": 1.0, "save": 0.4, "": 0.7}


def test_the_books_close() -> None:
    made = account([ONE, OTHER], 10.0, CLIENT, ROUNDS)
    first, second = made.workers["0"], made.workers["1"]
    assert first.useful == pytest.approx(0.6 + 0.8 + 3.9 + 1.0 + 0.05)  # the last: a task without a reading
    assert first.transfer == pytest.approx(0.1 + 0.5)
    assert first.other == pytest.approx((0.4 + 0.1) + 0.2 + 0.2 + 0.15)
    assert (first.wait, first.idle) == (0.0, pytest.approx(1.9))
    assert second.wait == pytest.approx(2.0 + 0.5 + 1.0)  # in the rounds, for statistics, for the evaluation
    assert second.idle == pytest.approx(3.5 - 1.5)
    assert second.other == pytest.approx(0.4 + 0.2 + 0.3)  # the last: around the rounds, in their task
    assert made.remainder == pytest.approx((10 - first.total) + (10 - second.total))
    assert sum(made.shares().values()) == pytest.approx(1)
    for kind in KINDS:
        assert sum(getattr(spent, kind) for spent in made.stages.values()) == pytest.approx(getattr(made.spent, kind))
    assert made.notes == ()


def test_what_belongs_to_which_stage() -> None:
    stages = account([ONE, OTHER], 10.0, CLIENT, ROUNDS).stages
    assert list(stages) == [
        "reading", "statistics", "bootstrap", "rounds", "evaluation", "saving", "scheduling",
    ]  # fmt: skip
    assert stages["reading"].useful == pytest.approx(1.2)
    assert stages["bootstrap"].other == pytest.approx(0.2)
    assert stages["evaluation"].wait == pytest.approx(1.0)
    assert stages["evaluation"].idle == 0  # the client waited for it all the time
    idle = 1.9 + 2.0
    assert stages["saving"].idle == pytest.approx(idle * 0.4 / (0.2 + 0.3 + 0.4 + 0.4 + 0.7))


def test_a_task_that_uses_every_slot_counts_for_all_of_them() -> None:
    wide = WorkerReading(
        "0", 4, 10.0, (TaskTime("build", 5.0, 20.0), TaskTime("evaluate", 2.0, 2.0)), 0.0, 0.0, 18.0,
        (TimeSlice("matrix", 5.0, 4.0, 12.0), TimeSlice("evaluate", 2.0, 2.0, 3.0)), cpu=2.0, wide=5.0,
    )  # fmt: skip
    made = account([wide], 10.0, {"matrix": 5.0, "evaluate": 2.0, "save": 3.0}, {})
    assert made.stages["matrix"].useful == pytest.approx(12)  # of all its threads
    assert made.stages["matrix"].other == pytest.approx(8)
    assert made.stages["evaluation"].useful == pytest.approx(2)  # of its own thread
    assert made.stages["evaluation"].wait == pytest.approx(6)  # the other three slots
    assert made.stages["saving"].idle == pytest.approx(12)
    assert made.remainder == pytest.approx(0)


def test_waiting_is_never_more_than_there_was_nothing_to_do() -> None:
    busy = replace(OTHER, free=0.3)
    spent = account([ONE, busy], 10.0, CLIENT, ROUNDS).workers["1"]
    assert spent.wait == pytest.approx(2.0 + 0.3)
    assert spent.idle == pytest.approx(0)


def test_without_the_meter_cpu_time_alone_splits_the_rounds_and_it_says_so() -> None:
    made = account([ONE], 10.0, CLIENT, {})
    assert made.stages["rounds"].useful == pytest.approx(4.0)
    assert made.stages["rounds"].other == pytest.approx(0.7)
    assert made.notes == (
        "the meter could not split the rounds: transfer and waiting in them are not separated from other",
    )


def test_tasks_of_others_are_neither_ours_nor_idle() -> None:
    shared = replace(ONE, others=1.5, free=0.4)
    made = account([shared], 10.0, CLIENT, ROUNDS)
    assert made.stages["others"].other == pytest.approx(1.5)
    assert "tasks of other clients" in made.notes[0]
    assert made.stages["scheduling"].useful == 0  # Dask's digests are theirs too


def test_time_continues_while_the_client_saves() -> None:
    made = account([ONE, OTHER], 10.0, CLIENT, ROUNDS)
    later = made.extend_idle(2.0, "saving")
    assert later.worker_seconds == pytest.approx(24)
    assert later.spent.idle == pytest.approx(made.spent.idle + 4)
    assert later.remainder == pytest.approx(made.remainder)
    assert later.stages["saving"].idle == pytest.approx(made.stages["saving"].idle + 4)
    said = later.to_dict()
    assert said["workers"]["0"]["slots"] == 1
    assert said["useful"] + said["transfer"] + said["wait"] + said["other"] + said["idle"] + said[
        "remainder"
    ] == pytest.approx(24)


LOST = MissingReading("1", 1, 6.0, {"statistics": 2.3, "rounds": 3.7}, lost=True)


def test_a_lost_worker_counts_until_it_was_lost_as_what_the_client_was_at() -> None:
    made = account([ONE], 10.0, CLIENT, None, [LOST])
    assert made.worker_seconds == pytest.approx(10 + 6)
    assert made.workers["1"].other == made.workers["1"].total == pytest.approx(6)
    alone = account([ONE], 10.0, CLIENT, None)
    assert made.stages["statistics"].other - alone.stages["statistics"].other == pytest.approx(2.3)
    assert made.stages["rounds"].other - alone.stages["rounds"].other == pytest.approx(3.7)
    assert "recovery" not in made.stages
    assert made.remainder == pytest.approx(alone.remainder)
    assert made.notes == (
        "interrupted rounds are split by CPU time alone",
        "what worker 1 did before it was lost counts as other",
    )
    later = made.extend_idle(2.0, "saving")
    assert later.worker_seconds == pytest.approx(12 + 6)  # it is not there while the client saves
    assert later.offered("1") == later.workers["1"].total == pytest.approx(6)


def test_who_could_not_be_read_is_not_called_lost() -> None:
    made = account([ONE], 10.0, CLIENT, ROUNDS, [replace(LOST, seconds=10.0, lost=False)])
    assert made.worker_seconds == pytest.approx(20)
    assert made.notes == ("what worker 1 did could not be read and counts as other",)
    assert made.extend_idle(2.0, "saving").worker_seconds == pytest.approx(24)


@pytest.mark.parametrize("name", ["2", "1"])  # of the replacement: a new one, or that of the lost worker
def test_a_replacement_counts_from_when_it_joined(name: str) -> None:
    """Ten seconds, of which worker 1 was there for six; then ten more with another in its place."""
    before = account([ONE], 10.0, CLIENT, None, [LOST])
    after = account([ONE, replace(OTHER, worker=name)], 10.0, CLIENT, {"0": ROUNDS["0"], name: ROUNDS["1"]})
    made = before.concat(after)
    assert made.seconds == 20
    assert made.worker_seconds == pytest.approx(20 + 6 + 10)
    assert made.offered("0") == pytest.approx(20)
    assert made.offered(name) == pytest.approx(16 if name == "1" else 10)
    assert made.workers[name].wait == after.workers[name].wait  # nothing from before it was there
    assert sum(made.shares().values()) == pytest.approx(1)
    assert made.remainder == pytest.approx(before.remainder + after.remainder)
    for kind in KINDS:
        assert sum(getattr(spent, kind) for spent in made.stages.values()) == pytest.approx(getattr(made.spent, kind))
    assert made.notes == before.notes  # the replacement is not called lost
    assert made.extend_idle(1.0, "saving").worker_seconds == pytest.approx(36 + 2)
    workers = made.to_dict()["workers"]
    assert sum(worker["worker_seconds"] for worker in workers.values()) == pytest.approx(36)


def test_a_worker_that_joins_while_none_is_lost() -> None:
    made = account([ONE], 10.0, CLIENT, None).concat(account([ONE, OTHER], 10.0, CLIENT, ROUNDS))
    assert made.worker_seconds == pytest.approx(30)
    assert made.notes == ("interrupted rounds are split by CPU time alone",)


class _Workers:
    """Worker processes with watches, for a client that reaches those that are there; all on one made-up clock."""

    scheduler, status = SimpleNamespace(identity=None), "running"

    def __init__(self, *addresses: str) -> None:
        self.now, self.watches = 0.0, dict.fromkeys(addresses)

    def sync(self, identity: Any, **kwargs: Any) -> dict[str, Any]:
        return {"workers": dict(self.watches)}

    def run(self, what: Any, *run: str, workers: list[str], on_error: str) -> dict[str, Any]:
        assert on_error == "ignore"
        assert set(workers) <= self.watches.keys()  # one that is gone would be knocked at for half a minute
        name = getattr(what, "func", what).__name__  # of a partial, too
        return {address: self._do(name, address) for address in workers}

    def _do(self, what: str, address: str) -> WorkerReading | None:
        begun = self.watches[address]
        self.watches[address] = None if what == "end_watch" else self.now
        if what == "_begin" or begun is None:
            return None
        seconds = self.now - begun
        return WorkerReading(address, 1, seconds, (), others=0.0, transfer=0.0, free=seconds, parts=())


def _info(address: str, name: str = "") -> WorkerInfo:
    return WorkerInfo(address, name or address, 1, 0, "127.0.0.1", 1.0, f"process of {address}")


def test_a_run_that_starts_again_on_a_replacement() -> None:
    """A worker is lost after 20 s; another comes, under another name, and the run continues after 25 s, until 100 s."""
    workers = _Workers("a", "b")
    clock = StageTimer(begin=0.0, clock=lambda: workers.now)
    watching = TimeAccountant(workers, "run", [_info("a"), _info("b")], clock)  # type: ignore[arg-type]
    with clock.stage("matrix"):
        workers.now = 15.0
    with clock.stage("rounds"):
        workers.now = 20.0
        del workers.watches["b"]
        watching.lost("b")
        workers.now = 21.0
    with clock.stage("recovery"):
        workers.now = 24.0
        workers.watches["c"] = None
        workers.now = 25.0
        watching.new_segment([_info("a"), _info("c")])
    with clock.stage("rounds"):
        workers.now = 100.0
    made = watching.account({}).account
    assert made.worker_seconds == pytest.approx(100 + 20 + 75)
    assert {name: made.offered(name) for name in "abc"} == pytest.approx({"a": 100, "b": 20, "c": 75})
    assert made.remainder == pytest.approx(0)
    assert made.stages["matrix"].other == pytest.approx(15)  # the lost worker's
    assert made.stages["rounds"].other == pytest.approx(5)
    assert made.stages["recovery"].other == 0
    assert made.stages["recovery"].idle == pytest.approx(4)  # of the one that was there
    assert made.notes == ("what worker b did before it was lost counts as other",)
    assert set(workers.watches.values()) == {None}  # no watch is left


def test_a_task_that_was_broken_off_counts_once() -> None:
    """Dask books all its seconds under one word, those of its thread among them, which its parts have already."""
    tasks = [
        SimpleNamespace(key=f"{prefix}-1", annotations={RUN: "broken off"}) for prefix in ("rounds", "collect_unit")
    ]
    worker = SimpleNamespace(
        name="a", state=SimpleNamespace(nthreads=1, all_running_tasks=tasks, in_flight_tasks_count=0), digests_total={}
    )
    seen = WorkerTime("broken off", worker, Ledger("broken off"))
    for prefix, word, seconds in (
        ("rounds", "failed", 10.0), ("rounds", "cancelled", 0.5), ("rounds", "executor", 0.1),
        ("collect_unit", "cancelled", 3.0), ("collect_unit", "thread-cpu", 2.0),
    ):  # fmt: skip
        worker.digests_total["execute", "", prefix, word, "seconds"] = seconds
    found = seen.reading()
    assert (found.cpu, found.off_cpu, found.wide, found.overhead) == pytest.approx((2.0, 0.0, 10.5, 0.1))


def test_a_worker_that_was_lost_after_the_last_start() -> None:
    workers = _Workers("a", "b")
    clock = StageTimer(begin=0.0, clock=lambda: workers.now)
    watching = TimeAccountant(workers, "run", [_info("a"), _info("b")], clock)  # type: ignore[arg-type]
    workers.now = 10.0
    del workers.watches["b"]  # and no event has reported it yet
    ended = watching.account({})
    assert ended.account.notes == ("what worker b did before it was lost counts as other",)
    workers.now = 12.0
    assert ended.now("saving").worker_seconds == pytest.approx(12 + 10)


def test_the_sentence_says_it_when_more_was_measured_than_there_was_and_what_it_cannot_tell() -> None:
    shares = {"useful": 0.9, "transfer": 0.05, "wait": 0.02, "other": 0.03, "idle": 0.02, "remainder": -0.02}
    said = sentence({"shares": shares, "worker_seconds": 3.75, "stages": {}, "notes": ["a note"]})
    assert said.startswith("where the 3.8 worker-seconds went: 90 % useful, 5 % transfer")
    assert said.endswith("2 % idle (2 % counted twice; a note)")


@pytest.mark.parametrize(
    ("transfer", "closure", "told"), [(0.3, 0.0, True), (0.1, 0.2, True), (0.9, 0.6, False), (0.3, None, False)]
)
def test_what_the_meter_cannot_have_seen_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, transfer: float, closure: float | None, told: bool
) -> None:
    """Parts that fall short leave a remainder; parts far beyond the whole are none."""
    sample = SimpleNamespace(worker="0", seconds=1.0, split=TimeSplit(0.5, transfer, 0.1, 0.1), closure=closure)
    monkeypatch.setattr(recorder, "worker_samples", lambda meters, names: (sample,))
    meter: Any = SimpleNamespace(rank=0, rounds=10)
    expected = {"0": Rounds(10.0, 5.0, 10 * transfer, 1.0, 1.0)} if told else {}
    assert recorder.rounds_of([meter], ["0"]) == expected


def _spin(seconds: float) -> None:
    stop = time.thread_time() + seconds
    while time.thread_time() < stop:
        pass


def _work() -> None:
    with span("statistics"):
        with timed_section("reading"):
            time.sleep(0.1)
        _spin(0.1)


def _watches(dask_worker: Any) -> list[str]:
    from pipeline.runtime.recorder import WorkerTime
    from pipeline.runtime.worker_session import session_of

    return list(session_of(dask_worker).each(WorkerTime))


def _unwatch(dask_worker: Any) -> None:
    from pipeline.runtime.recorder import WorkerTime
    from pipeline.runtime.worker_session import session_of

    for run in _watches(dask_worker):
        session_of(dask_worker).pop(run, WorkerTime)


def _block(seconds: float, dask_worker: Any) -> None:
    """Makes the worker's event loop do nothing else for so long."""
    dask_worker.loop.add_callback(time.sleep, seconds)


for travels_by_value in (_spin, _work, _watches, _unwatch, _block):
    travels_by_value.__module__ = "__main__"  # workers do not have the tests


def test_a_watch_sees_its_own_run_alone(client: Any) -> None:
    workers = pipeline_workers(client)
    clock = StageTimer(begin=time.time())
    watches = {run: TimeAccountant(client, run, workers, clock) for run in ("watched", "another")}
    with annotate_run("watched"):
        client.gather([client.submit(_work, workers=[worker.address], pure=False) for worker in workers])
    with annotate_run("another"):
        client.submit(_spin, 0.2, workers=[workers[0].address], pure=False).result()
    readings = {run: watching.stop() for run, watching in watches.items()}
    mine = readings["watched"][workers[0].address]
    assert {part.name for part in mine.parts} == {"reading", "statistics"}
    parts = {part.name: part for part in mine.parts}
    assert parts["reading"].seconds >= 0.1 > parts["reading"].cpu_seconds
    assert parts["statistics"].cpu_seconds == pytest.approx(0.1, abs=0.03)
    assert [tasks.prefix for tasks in mine.tasks] == ["work"]
    late = 0.3  # of a task on a busy machine, before it may run again
    assert 0.2 <= mine.tasks[0].busy < 0.2 + mine.others + mine.free + late
    assert mine.others >= 0.2  # the other run's
    assert readings["another"][workers[1].address].parts == ()
    whole = sum(tasks.busy for tasks in mine.tasks) + mine.others + mine.transfer + mine.free
    assert whole == pytest.approx(mine.seconds, abs=1e-6)
    assert watches["watched"].stop() == {}  # no watch is left
    assert client.run(_watches) == {worker.address: [] for worker in workers}


def test_watches_that_start_again_keep_what_was_seen(client: Any) -> None:
    workers = pipeline_workers(client)
    clock = StageTimer(begin=time.time())
    watching = TimeAccountant(client, "again", workers, clock)
    with annotate_run("again"):
        client.gather([client.submit(_work, workers=[worker.address], pure=False) for worker in workers])
        watching.new_segment(workers[:1])
        client.submit(_work, workers=[workers[0].address], pure=False).result()
    made = watching.account({}).account
    assert made.stages["statistics"].useful == pytest.approx(0.2, abs=0.06)  # of the one that continued, twice
    assert made.offered(workers[0].name) == pytest.approx(made.seconds * workers[0].threads)
    assert 0.2 < made.offered(workers[1].name) / workers[1].threads < made.seconds - 0.2
    assert made.notes == (f"what worker {workers[1].name} did could not be read and counts as other",)
    assert client.run(_watches) == {worker.address: [] for worker in workers}


def test_a_worker_that_lost_its_watch_is_reported(client: Any) -> None:
    workers = pipeline_workers(client)
    watching = TimeAccountant(client, "lost", workers, StageTimer(begin=time.time()))
    client.run(_unwatch, workers=[workers[1].address])
    made = watching.account({}).account
    assert set(made.slots) == {worker.name for worker in workers}
    assert made.notes == (f"what worker {workers[1].name} did could not be read and counts as other",)


def test_a_worker_that_answers_late_costs_no_other_workers_reading(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that has just come back, and imports what it needs first."""
    monkeypatch.setattr("pipeline.runtime.recorder.ANSWER_SECONDS", 0.5)
    workers = pipeline_workers(client)
    watching = TimeAccountant(client, "late", workers, StageTimer(begin=time.time()))
    client.run(_block, 2.0, workers=[workers[1].address])
    watching.new_segment(workers)
    time.sleep(2.0)
    made = watching.account({}).account
    assert made.notes == (f"what worker {workers[1].name} did could not be read and counts as other",)


def pipeline_workers(client: Any) -> Any:
    from pipeline.config.job import Cluster
    from pipeline.runtime.placement import placement

    return placement(client, Cluster(device="cpu")).workers


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200,000 rows in four files."""
    import numpy as np

    folder, rng = tmp_path_factory.mktemp("numbers"), np.random.default_rng(0)
    for number in range(4):
        columns = {f"x{i}": rng.normal(size=50_000).astype(np.float32) for i in range(12)}
        label = (columns["x0"] + columns["x1"] ** 2 > 1).astype(np.int64)
        pq.write_table(pa.table({**columns, "label": label}), folder / f"{number}.parquet")
    return folder


def job_of(source: Path, out: Path, *settings: str) -> Job:
    table = {"data": {"source": str(source), "target": "label"}, "output": {"model": str(out)}}
    small = ("training.rounds=30", "output.report=false", "data.fragment_mib=1", "data.validation.share=0.2")
    return Job.parse(table, settings=[*small, *settings])


def test_a_training_accounts_for_its_worker_seconds(client: Any, numbers: Path, tmp_path: Path) -> None:
    summary = pipeline.train(client, job_of(numbers, tmp_path / "m")).summary
    made = summary["account"]
    assert {"reading", "statistics", "blocks", "matrix", "bootstrap", "rounds", "evaluation", "saving"} <= set(
        made["stages"]
    )
    assert sum(made["shares"].values()) == pytest.approx(1)
    assert abs(made["shares"]["remainder"]) < 0.25  # under 0.03 on a quiet machine; benchmarks hold that
    assert made["stages"]["rounds"]["useful"] > 0
    assert made["stages"]["rounds"]["transfer"] > 0 or "the meter could not split" in made["notes"][0]
    assert made["worker_seconds"] == pytest.approx(2 * made["seconds"])
    assert made["seconds"] < summary["seconds"]["total"]
    assert client.run(_watches) == {worker: [] for worker in scheduler_info(client)["workers"]}


@pytest.mark.slow
def test_two_trainings_at_once_on_one_client_do_not_mix(client: Any, numbers: Path, tmp_path: Path) -> None:
    said: dict[int, list[Any]] = {0: [], 1: []}
    results: dict[int, Any] = {}

    def go(which: int) -> None:
        job = job_of(numbers, tmp_path / f"m{which}", f"training.rounds={20 + 10 * which}")
        results[which] = pipeline.train(client, job, listen=said[which].append)

    threads = [threading.Thread(target=go, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for which, result in results.items():
        rounds = [event.rounds for event in said[which] if type(event).__name__ == "RoundDone"]
        assert set(rounds) == {20 + 10 * which}
        made = result.summary["account"]
        assert made["stages"]["others"]["other"] > 0
        assert made["stages"]["rounds"]["useful"] > 0
    assert set(results) == {0, 1}


def test_every_task_of_a_training_is_known_by_name(client: Any, numbers: Path, tmp_path: Path) -> None:
    seen: set[str] = set()

    class Spy(TimeAccountant):
        def stop(self) -> dict[str, WorkerReading]:
            found = super().stop()
            seen.update(tasks.prefix for reading in found.values() for tasks in reading.tasks)
            return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.run.train.TimeAccountant", Spy)
        pipeline.train(client, job_of(numbers, tmp_path / "m", "training.objective='reg:absoluteerror'"))
    assert {"collect_unit", "make_block", "build", "rounds", "evaluate"} <= seen <= STAGE_BY_TASK_PREFIX.keys()
