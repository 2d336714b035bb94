"""What becomes of a training whose workers come and go: on clusters of their own, with the whole pipeline around it."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pipeline
from pipeline import events
from pipeline.data.synthetic import generate
from pipeline.job import Job
from pipeline.training.checkpoint import CheckpointStore, Identity, State
from pipeline.training.supervisor import Checkpoints


def state(number: int, *, stopped: bool = False) -> State:
    return State(number, b"trees", {}, [0.1] * number, number, 0.5, stopped)


def test_a_late_state_does_not_undo_the_last(tmp_path: Path) -> None:
    heard: list[events.Event] = []
    walk: Any = SimpleNamespace(round=0, listen=heard.append, note=print)
    store = CheckpointStore(tmp_path / "model")
    checkpoints = Checkpoints(walk, store, Identity({}, (), "cpu", "3"), None)
    checkpoints.keep(state(5))
    checkpoints.keep(state(12, stopped=True))
    store.remove()
    for late in (state(10), state(12), state(5), state(12, stopped=True)):
        checkpoints.keep(late)
    assert checkpoints.latest == state(12, stopped=True)
    assert not store.folder.exists()
    assert len(heard) == 2


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
    waited, resumed = result.summary["incidents"]
    assert waited == "1 of 2 workers left; waiting up to 1 s for the others"
    assert resumed.startswith("resuming from round")
    assert resumed.endswith("on 1 worker")
    assert result.summary["rounds"] == 2000
