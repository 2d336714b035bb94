"""What becomes of a training whose workers come and go: on clusters of their own, with the whole pipeline around it."""

import contextlib
import errno
import logging
import os
import re
import signal
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, LocalCluster

import pipeline
from pipeline.config.job import Job
from pipeline.data.synthetic.generator import generate
from pipeline.errors import WorkerLostError
from pipeline.events import types as events
from pipeline.training import checkpoint
from pipeline.training.checkpoint import CheckpointStore
from pipeline.training.identity import Identity
from pipeline.training.state import State
from pipeline.training.supervisor import Checkpoints, loss_line


def state(number: int, *, stopped: bool = False) -> State:
    return State(number, b"trees", {}, [0.1] * number, number, 0.5, stopped)


def test_a_late_state_does_not_undo_the_last(tmp_path: Path) -> None:
    heard: list[events.Event] = []
    context: Any = SimpleNamespace(round=0, emit=heard.append, emit_note=print)
    store = CheckpointStore(tmp_path / "model")
    checkpoints = Checkpoints(context, store, Identity({}, (), "cpu", "xgboost", {"xgboost": "3"}), None)
    checkpoints.keep(state(5))
    checkpoints.keep(state(12, stopped=True))
    store.remove()
    for late in (state(10), state(12), state(5), state(12, stopped=True)):
        checkpoints.keep(late)
    assert checkpoints.latest == state(12, stopped=True)
    assert not store.folder.exists()
    assert len(heard) == 2


def test_a_full_disk_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is needed and free, and with the round that --resume would begin at."""
    notes: list[str] = []
    context: Any = SimpleNamespace(round=0, emit=lambda event: None, emit_note=notes.append)
    checkpoints = Checkpoints(
        context, CheckpointStore(tmp_path / "model"), Identity({}, (), "cpu", "xgboost", {"xgboost": "3"}), None
    )
    checkpoints.keep(state(5))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    checkpoints.keep(state(10))
    checkpoints.keep(state(15))
    (note,) = notes
    assert re.search(r"No space left on device \(\d+ bytes needed, [\d,]+ bytes free\); training continues", note)
    assert note.endswith("--resume would continue from round 5")


def test_the_last_line_says_of_a_loss_what_was_reported() -> None:
    context: Any = SimpleNamespace(
        run="a",
        job=Job.parse({"data": {"source": "x", "target": "y"}}),
        names=lambda addresses: ("1",),
        incidents=[
            events.WorkerLost(worker="1", stage="blocks", round=0, reason="killed by signal 9"),
            events.WorkerLost(worker="0", stage="rounds", round=7, reason="killed by signal 9"),
        ],
    )
    line = loss_line(context, WorkerLostError("tcp://127.0.0.1:1", "killed by signal 9"))
    assert line == "worker 1 lost in blocks: killed by signal 9"


@pytest.mark.slow
def test_a_retired_worker_is_done_without(tmp_path: Path) -> None:
    generate(tmp_path / "data", rows=20_000, files=4, seed=1)
    job = Job.parse(
        {
            "data": {"source": str(tmp_path / "data"), "target": "arr_delay", "exclude": ["dep_delay", "taxi_out"]},
            "training": {"rounds": 2000, "early_stopping": 0, "checkpoint_rounds": 20, "params": {"max_depth": 2}},
            "cluster": {"device": "cpu", "workers": 2, "threads": 1, "wait_seconds": 1.0},
            "output": {"model": str(tmp_path / "model"), "report": False},
        }
    )
    retiring: list[threading.Thread] = []

    with pipeline.connect(job) as client:
        address = sorted(client.run(str))[1]

        def retire(event: events.Event) -> None:
            if isinstance(event, events.RoundDone) and event.round > 40 and not retiring:
                retiring.append(threading.Thread(target=client.retire_workers, args=([address],)))
                retiring[0].start()

        result = pipeline.train(client, job, listen=retire)
        retiring[0].join(30)
        assert not retiring[0].is_alive()
        assert address not in client.run(str)
    lost, waited, resumed = result.summary["incidents"]
    assert "lost at round" in lost
    assert lost.endswith(": it was retired")
    assert waited == "1 of 2 workers left; waiting up to 1 s for the others"
    assert resumed.startswith("resuming from round")
    assert resumed.endswith("on 1 worker")
    assert result.summary["rounds"] == 2000


def two_free_ports() -> int:
    """The first of two neighbours."""
    while True:
        with socket.socket() as one, socket.socket() as other, contextlib.suppress(OSError, OverflowError):
            one.bind(("127.0.0.1", 0))
            first: int = one.getsockname()[1]
            other.bind(("127.0.0.1", first + 1))
            return first


@pytest.mark.slow
def test_a_worker_that_is_back_at_its_old_address_takes_part(tmp_path: Path) -> None:
    generate(tmp_path / "data", rows=20_000, files=4, seed=1)
    job = Job.parse(
        {
            "data": {"source": str(tmp_path / "data"), "target": "arr_delay", "exclude": ["dep_delay", "taxi_out"]},
            "training": {"rounds": 300, "early_stopping": 0, "checkpoint_rounds": 20, "params": {"max_depth": 2}},
            "cluster": {"device": "cpu", "workers": 2, "threads": 1},
            "output": {"model": str(tmp_path / "model"), "report": False},
        }
    )
    first = two_free_ports()
    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "worker_port": f"{first}:{first + 1}"}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, silence_logs=logging.CRITICAL, **options) as cluster,
        Client(cluster) as client,
    ):
        processes = client.run(os.getpid)

        def kill(event: events.Event) -> None:
            if isinstance(event, events.Checkpoint) and event.round < 100:
                with contextlib.suppress(ProcessLookupError):  # only once
                    os.kill(max(processes.items())[1], signal.SIGKILL)

        result = pipeline.train(client, job, listen=kill)
        assert client.run(os.getpid).keys() == processes.keys()
    assert result.summary["rounds"] == 300
    assert result.summary["workers"] == 2
    assert next(line for line in result.summary["incidents"] if line.startswith("resuming")).endswith("on 2 workers")
