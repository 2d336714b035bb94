"""Errors and notes when the workers of a pass die."""

import functools
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, KilledWorker, LocalCluster
from distributed.client import FutureCancelledError
from distributed.scheduler import NoValidWorkerError

from pipeline.data.fragments import Fragment, Piece
from pipeline.data.rows import RowPlan
from pipeline.errors import TrainingError
from pipeline.preprocess.fit import FragmentTask
from pipeline.preprocess.fragment_tasks import FragmentTasks, wait_for
from pipeline.runtime.rpc import CONNECTION_LOST

KILLED = KilledWorker("task-1", SimpleNamespace(address="tcp://127.0.0.1:1"), 3)  # type: ignore[arg-type]
NOBODY = NoValidWorkerError("task-0", set(), set(), {}, 30.0)
NO_ROWS: Any = SimpleNamespace(of=lambda *_: None)  # in memory
SHORT = "workers were ended 4 times because their memory came near the limit of 200 MiB"


def context_of(short: str | None) -> Any:
    members = SimpleNamespace(
        refresh=dict,
        raise_if_lost=print,
        call=lambda ask: ask(),
        processes=dict,
        out_of_memory=lambda planned: short,
        lost_worker=lambda: ("0", "killed by signal 11"),
    )
    training = SimpleNamespace(max_restarts=3)
    return SimpleNamespace(membership=members, job=SimpleNamespace(training=training), emit=print, planned_nbytes=0)


def inputs_of(*fragments: Fragment) -> Any:
    return SimpleNamespace(sources=(SimpleNamespace(fragments=fragments, frame=None),))


@pytest.mark.parametrize(
    ("error", "short", "says"),
    [
        (KILLED, SHORT, f"survey: {SHORT}"),
        (NOBODY, SHORT, f"survey: {SHORT}"),
        (KILLED, None, "survey: workers died 4 times, at fragment 1 (b.csv); worker 0: killed by signal 11"),
        (NOBODY, None, "survey: no worker was available for 30 s"),
    ],
)
def test_a_file_is_named_only_where_memory_was_not_short(error: Exception, short: str | None, says: str) -> None:
    def die(*_: object) -> None:
        raise error

    def submit(_: object, unit: FragmentTask, *__: object, **options: object) -> Any:
        return SimpleNamespace(key=f"task-{unit.fragment.index}")

    fragments = [Fragment(place, (Piece(f"{name}.csv", None, None, 1, 1),)) for place, name in enumerate("ab")]
    units = [FragmentTask(SimpleNamespace(), fragment, RowPlan(())) for fragment in fragments]  # type: ignore[arg-type]
    context, inputs = context_of(short), inputs_of(*fragments)
    context.client = SimpleNamespace(submit=submit)
    with pytest.raises(TrainingError) as caught:
        FragmentTasks(context, inputs, NO_ROWS, die).run("survey", units, lambda futures: list, print)
    assert str(caught.value) == says


def cancelled(reason: str) -> FutureCancelledError:
    return FutureCancelledError(key="task-0", reason=reason, msg="")


BEFORE, AFTER = {"a": "host:1"}, {"a": "host:2"}  # worker processes


def pass_over(*ends: BaseException | Mapping[str, str] | None) -> tuple[Any, list[str]]:
    """A pass whose attempts end so, by an error or with these processes, and the notes it led to."""
    context, notes, left, there = context_of(None), list[str](), list(ends), dict(BEFORE)
    context.emit_note, context.membership.processes = notes.append, lambda: dict(there)

    def wait(futures: object, stage: str, on_event: object, units: object, check: Callable[[], None]) -> None:
        end = left.pop(0)
        if isinstance(end, BaseException):
            raise end
        if end is not None:
            there.clear()
            there.update(end)
        check()

    run = functools.partial(
        FragmentTasks(context, inputs_of(), NO_ROWS, wait).run, "statistics", [], lambda futures: lambda: "fitted"
    )
    return run, notes


def test_a_cluster_that_another_client_restarts_in_a_pass() -> None:
    run, notes = pass_over(cancelled("scheduler-restart"), AFTER, None)
    assert run(print) == "fitted"
    assert notes == [
        "statistics: another client cancelled this run's tasks (client.restart()?); the pass was started again",
        "statistics: all workers were replaced by others; the pass was started again",
    ]


def test_a_pass_is_not_begun_again_for_ever_nor_without_a_scheduler() -> None:
    run, _ = pass_over(*[cancelled("unknown")] * 4)
    with pytest.raises(TrainingError, match=r"statistics: given up after 3 restarts \(training.max_restarts = 3\)"):
        run(print)
    run, notes = pass_over(cancelled(CONNECTION_LOST))
    with pytest.raises(FutureCancelledError):
        run(print)
    assert not notes


def test_a_pass_begins_again_where_all_its_workers_were_replaced() -> None:
    """Dask forgets tasks that prefer workers which are gone."""
    there = {"a": "host:1", "b": "host:2"}

    def begins_again(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
        looks, context, notes = [before, now, now, now], context_of(None), list[str]()
        context.emit_note, context.membership.processes = notes.append, lambda: looks.pop(0)

        def wait(futures: object, stage: str, on_event: object, units: object, check: Callable[[], None]) -> None:
            check()

        FragmentTasks(context, inputs_of(), NO_ROWS, wait).run("survey", [], lambda futures: list, print)
        return bool(notes)

    assert not begins_again({"a": "host:1", "b": "host:2"}, there)
    assert not begins_again({"b": "host:2", "c": "host:3"}, there)
    assert not begins_again({}, there)  # there was no worker to prefer
    assert begins_again({"a": "host:0"}, there)  # another process at the same address
    assert not begins_again({"a": "host:0"}, {})  # there is no worker yet


def test_tasks_prefer_only_workers_that_are_there() -> None:
    asked: list[tuple[Any, bool]] = []
    context = context_of(None)
    context.client = SimpleNamespace(
        submit=lambda *_, workers, allow_other_workers, pure: asked.append((workers, allow_other_workers))
    )
    fragment = Fragment(0, (Piece("a.csv", None, None, 1, 1),))
    context.membership.processes = lambda: {"here": "host:1"}
    units: Any = [SimpleNamespace(worker=worker, fragment=fragment) for worker in ("here", "gone", None)]
    tasks = FragmentTasks(context, inputs_of(fragment), NO_ROWS, lambda *_: None)
    tasks.run("survey", units, lambda futures: list, print)
    assert asked == [(["here"], True), (None, False), (None, False)]


def late(place: int) -> int:
    time.sleep(0.05)
    if place == 1:
        raise ValueError(f"part {place}")
    return place


late.__module__ = "__main__"


def test_after_an_error_nothing_is_left_and_the_client_is_still_connected() -> None:
    """A scheduler drops a client that cancels what a task needs whose result is no longer wanted."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        parts = client.map(late, range(6), pure=False)
        # Nobody holds the sum in between.
        total = client.submit(sum, [client.submit(sum, parts, pure=False)], pure=False)
        units: Any = [SimpleNamespace(fragment=SimpleNamespace(rows=1))] * 6
        with pytest.raises(ValueError, match="part 1"):
            wait_for(parts, "statistics", lambda event: None, units)
        total.release()
        deadline = time.monotonic() + 20
        while cluster.scheduler.tasks:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.status == "running"
        assert [event["action"] for _, event in client.get_events(client.id)].count("add-client") == 1
