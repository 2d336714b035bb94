"""What is told where the workers of a pass die, and what the plan says beforehand."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, KilledWorker, LocalCluster
from distributed.scheduler import NoValidWorkerError

from pipeline.data.fragments import Fragment, Piece
from pipeline.data.rows import RowPlan
from pipeline.errors import TrainingError
from pipeline.planning.memory import MIB, Shape
from pipeline.preprocess import passes, passing
from pipeline.preprocess.fit import Unit
from pipeline.preprocess.passing import Passing, wait_for

KILLED = KilledWorker("task-1", SimpleNamespace(address="tcp://127.0.0.1:1"), 3)  # type: ignore[arg-type]
NOBODY = NoValidWorkerError("task-0", set(), set(), {}, 30.0)
SHORT = "workers were ended 4 times because their memory came near the limit of 200 MiB"


def walk_of(short: str | None) -> Any:
    members = SimpleNamespace(
        look=dict,
        check=print,
        out_of_memory=lambda planned: short,
        missing=lambda: ("0", "killed by signal 11"),
    )
    training = SimpleNamespace(max_restarts=3)
    return SimpleNamespace(members=members, job=SimpleNamespace(training=training), listen=print, planned_nbytes=0)


@pytest.mark.parametrize(
    ("error", "short", "says"),
    [
        (KILLED, SHORT, f"survey: {SHORT}"),
        (NOBODY, SHORT, f"survey: {SHORT}"),
        (KILLED, None, "survey: workers died 4 times, at fragment 1 (b.csv); worker 0: killed by signal 11"),
        (NOBODY, None, "survey: no worker was there for 30 s"),
    ],
)
def test_a_file_is_named_only_where_memory_was_not_short(
    error: Exception, short: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise error

    def submit(*_: object) -> list[Any]:
        return [SimpleNamespace(key=f"task-{place}") for place in range(2)]

    fragments = [Fragment(place, (Piece(f"{name}.csv", None, None, 1, 1),)) for place, name in enumerate("ab")]
    units = [Unit(SimpleNamespace(), fragment, RowPlan(())) for fragment in fragments]  # type: ignore[arg-type]
    monkeypatch.setattr(passing, "wait_for", die)
    monkeypatch.setattr(Passing, "_submit", submit)
    inputs: Any = SimpleNamespace(sources=())
    with pytest.raises(TrainingError) as caught:
        Passing(walk_of(short), inputs, SimpleNamespace()).run("survey", units, lambda futures: list, print)  # type: ignore[arg-type]
    assert str(caught.value) == says


def late(place: int) -> int:
    time.sleep(0.05)
    if place == 1:
        raise ValueError(f"part {place}")
    return place


late.__module__ = "__main__"


def test_after_an_error_nothing_is_left_and_the_client_is_still_connected() -> None:
    """A scheduler drops a client that cancels what a task needs that nobody wants any more."""
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


@pytest.mark.parametrize(("limit", "told"), [(0, 0), (8192, 0), (400, 1)])
def test_a_plan_beyond_the_limit_is_told(limit: int, told: int) -> None:
    said: list[str] = []
    workers = [SimpleNamespace(memory_limit=limit * MIB)]
    walk: Any = SimpleNamespace(
        placement=SimpleNamespace(workers=workers), client=SimpleNamespace(cluster=None), note=said.append
    )
    shape = Shape(
        rows=1_000_000, features=50, bins=256, depth=6, classes=1, workers=1, threads=1, fragment_rows=100_000,
        missing=False,
    )  # fmt: skip
    passes._compare_with_limit(walk, shape, "memory")
    assert walk.planned_nbytes > 400 * MIB
    assert len(said) == told
    for line in said:
        assert line == (
            f"a worker is expected to take {walk.planned_nbytes / MIB:,.0f} MiB, and is ended near its limit of 400 MiB: "
            "give the workers more (dask worker --memory-limit)"
        )
