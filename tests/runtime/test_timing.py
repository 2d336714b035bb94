"""Seconds by stage, with a clock of the test, and the spans that tasks log."""

import contextlib
import time
from typing import Any

import pytest

from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.events.topics import WORKER_EVENTS
from pipeline.runtime.channel import subscribe
from pipeline.runtime.task_ledger import annotate_run
from pipeline.runtime.timing import StageTimer, process_start, span


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_seconds_by_stage_and_what_lies_between() -> None:
    clock = Clock()
    stage_clock = StageTimer(begin=98.0, clock=clock, seconds={"import": 1.5})
    with stage_clock.stage("read"):
        clock.now += 3
    clock.now += 0.25
    with stage_clock.stage("write"):
        clock.now += 4
    with stage_clock.stage("read"):
        clock.now += 1
    assert stage_clock.close() == {"import": 1.5, "read": 4.0, "write": 4.0, "other": 0.75, "total": 10.25}
    clock.now += 1
    assert stage_clock.close()["total"] == 11.25  # it may be asked again
    assert "total" not in stage_clock.seconds


def test_a_stage_that_fails_is_counted() -> None:
    clock = Clock()
    stage_clock = StageTimer(begin=100.0, clock=clock)
    with contextlib.suppress(KeyError), stage_clock.stage("read"):
        clock.now += 2
        raise KeyError
    assert stage_clock.seconds == {"read": 2.0}


def test_other_is_never_negative() -> None:
    assert StageTimer(begin=99.0, clock=Clock(), seconds={"read": 5.0}).close()["other"] == 0.0


def test_the_process_began_before_now() -> None:
    import psutil

    assert process_start() == pytest.approx(psutil.Process().create_time(), abs=2)


def test_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", refuse)
    assert process_start() == pytest.approx(time.time(), abs=1)


def test_a_span_outside_a_worker_is_nothing() -> None:
    with span("read"):
        pass


def _work(stage: str) -> float:
    with span(stage):
        return time.time()


def test_a_span_is_logged_by_its_worker(client: Any) -> None:
    worker = min(scheduler_info(client)["workers"])
    with annotate_run("a run"):
        during = client.submit(_work, "a stage of a test", workers=[worker], pure=False).result()
    logged = [message for _, message in client.get_events(WORKER_EVENTS) if message.get("stage") == "a stage of a test"]
    assert [(message["worker"], message["run"]) for message in logged] == [(worker, "a run")]
    assert logged[0]["start"] <= during <= logged[0]["stop"]
    assert 0 <= logged[0]["cpu_seconds"] <= logged[0]["stop"] - logged[0]["start"] + 0.05


def test_runs_at_once_hear_their_own_spans_alone(client: Any) -> None:
    heard: dict[str, list[str]] = {"one": [], "other": []}
    with subscribe(client, WORKER_EVENTS, "one", lambda message: heard["one"].append(message["stage"])):
        with subscribe(client, WORKER_EVENTS, "other", lambda message: heard["other"].append(message["stage"])):
            _submit(client, "one", "a")
            _submit(client, "other", "b")
        _submit(client, "one", "c")  # the other's end has not ended the subscription
        _submit(client, "other", "d")
    _submit(client, "one", "e")
    assert heard == {"one": ["a", "c"], "other": ["b"]}


def _submit(client: Any, run: str, stage: str) -> None:
    with annotate_run(run):
        client.submit(_work, stage, pure=False).result()
