"""What other clients log under our topics is looked at as it arrives: what is no event is dropped, and counted."""

import asyncio
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from prometheus_client import generate_latest

from pipeline.dashboard import install
from pipeline.events.fields import LONGEST_MESSAGE
from pipeline.events.recording import EventsError, read
from pipeline.events.topics import RUN_EVENTS, WORKER_EVENTS
from pipeline.events.types import KINDS, LONGEST_RUN, Note, RoundDone, decode, encode
from pipeline.monitoring.follow import latest, well_formed
from pipeline.monitoring.state import bounds
from pipeline.monitoring.state.run_store import RunStore
from pipeline.runtime.channel import dispatcher
from tests.events.test_types import example

LONG = "x" * 5_000_000
ROUND = encode(
    RoundDone(time=1.0, round=1, rounds=2, metrics={"validation.auc": 0.5}, best_round=1, rows_per_second=1.0)
)


def changed(**fields: Any) -> dict[str, Any]:
    return {**ROUND, **fields}


BAD = [
    None, 3, "event", [1], {}, {"event": []}, {"event": {"a": 1}, "version": 1}, {"event": LONG, "version": 1},
    changed(version="1"), changed(round="9"), changed(round=9.5), changed(round=None), changed(round=-1),
    changed(round=True), changed(round=2**70), changed(round=[1]), changed(time=math.nan), changed(time=math.inf),
    changed(time="now"), changed(time=-1.0), changed(time=1e300), changed(rows_per_second=math.inf), changed(rows_per_second=10**400), changed(metrics={"a": 10**400}), changed(best=[]),
    changed(metrics=[1]), changed(metrics={"auc": "0.5"}), changed(metrics={1: 0.5}), changed(metrics={LONG: 0.5}),
    changed(metrics={f"m{i}": 1.0 for i in range(5_000)}), changed(metrics={"auc": {}}), changed(more=1),
    changed(**{LONG: 1}), {key: value for key, value in ROUND.items() if key != "round"},
    {"event": "Placed", "version": 1, "time": 1.0, "workers": [{"worker": "a"}]},
    {"event": "Placed", "version": 1, "time": 1.0, "workers": "abc"},
    {"event": "Placed", "version": 1, "time": 1.0, "workers": [LONG]},
    {"event": "FragmentDone", "version": 1, "time": 1.0, "stage": LONG, "done": 1, "total": 1, "rows": 1},
    {"event": "WorkerLost", "version": 1, "time": 1.0, "worker": LONG, "stage": "rounds", "round": 1, "reason": "x"},
    {"event": "Started", "version": 1, "time": 1.0, "verb": "train", "run": 7},
    {"event": "Note", "version": 1, "time": 1.0, "message": 7},
    {"event": "Asked", "version": 1, "time": 1.0, "settings": {"a": 1}},
]  # fmt: skip


@pytest.mark.parametrize("message", BAD, ids=lambda message: str(message)[:60])
def test_what_is_no_event_is_refused_in_a_short_line(message: Any) -> None:
    with pytest.raises(ValueError) as caught:
        decode(message)
    assert len(str(caught.value)) < 1_500


@pytest.mark.parametrize("name", KINDS)
def test_every_field_of_every_event_is_looked_at(name: str) -> None:
    good = encode(example(KINDS[name]))
    assert decode(good) == example(KINDS[name])
    for field in dataclasses.fields(KINDS[name]):
        for wrong in (object(), b"x", {"a": object()}, [object()]):
            with pytest.raises(ValueError):
                decode({**good, field.name: wrong})


def test_a_long_message_is_cut_and_nan_metrics_are_taken() -> None:
    event = decode(encode(Note(message=LONG)))
    assert isinstance(event, Note)
    assert len(event.message) == LONGEST_MESSAGE
    assert math.isnan(decode(changed(metrics={"validation.auc": math.nan})).metrics["validation.auc"])  # type: ignore[attr-defined]


class FakeScheduler:
    """As far as the plugin asks it."""

    clients: Mapping[str, Any] = {}

    def get_events(self, topic: str) -> list[Any]:
        return []

    def log_event(self, topic: str, message: Any) -> None:
        """Nobody listens."""


@pytest.fixture
def plugin() -> Iterator[install.Dashboard]:
    plugin = install.Dashboard()
    asyncio.run(plugin.start(FakeScheduler()))
    yield plugin
    asyncio.run(plugin.close())


def test_a_scheduler_drops_and_counts_them(plugin: install.Dashboard) -> None:
    runs = [None, 7, "", LONG, ["a"], "x" * (LONGEST_RUN + 1)]
    for topic in (RUN_EVENTS, WORKER_EVENTS):
        for message in BAD:
            plugin.log_event(topic, {"run": "bad", "event": message, "client": LONG})
        for run in runs:
            plugin.log_event(topic, {"run": run, "event": ROUND, "client": ["x"]})
    assert plugin.store.dropped >= len(BAD) + len(runs)
    for junk in (None, 3, "event", ["event"], {"event": 1}):
        plugin.log_event(RUN_EVENTS, junk)
    assert not plugin.store.runs
    plugin.log_event(RUN_EVENTS, {"run": "good", "event": ROUND})
    assert plugin.store.runs["good"].round == 1


def test_a_run_keeps_only_so_much() -> None:
    board = RunStore()
    for number in range(1_000):
        stage = {
            "event": "FragmentDone",
            "version": 1,
            "time": 1.0,
            "stage": f"s{number}",
            "done": 1,
            "total": 2,
            "rows": 1,
        }
        board.apply("a", decode(stage))
    assert len(board.runs["a"].stages) == bounds.STAGES


def test_pages_and_metrics_of_a_scheduler_continue(client: Client) -> None:
    """Through a real one: its plugin, and its /metrics."""
    install.register(client)
    dropped = lambda dask_scheduler: dask_scheduler.plugins[install.NAME].store.dropped  # noqa: E731
    before = client.run_on_scheduler(dropped)
    for message in (changed(round="9"), changed(time=math.nan), changed(metrics={"a" * 300: 1.0})):
        client.log_event(RUN_EVENTS, {"run": "hostile", "event": message, "client": "nobody"})
    client.log_event(RUN_EVENTS, {"run": "well", "event": ROUND})
    client.sync(client.scheduler.identity)
    assert client.run_on_scheduler(dropped) == before + 3
    text = client.run_on_scheduler(lambda: generate_latest().decode())
    assert 'pipeline_run_round{run="well"} 1.0' in text
    assert "hostile" not in text
    assert "pipeline_events_dropped_total" in text


def test_watching_and_listening_bear_them() -> None:
    said = [{"run": "a", "event": message} for message in BAD] + [None, 3, {"run": 7, "event": ROUND}]
    assert latest([one for one in said if well_formed(one)]) is not None  # type: ignore[misc]
    assert well_formed({"run": "a", "event": ROUND})
    heard: list[Any] = []
    dispatch = dispatcher({object(): ("a", heard.append)})
    for one in (None, 3, "x", {"run": ["a"]}, {"run": "a"}):
        dispatch((0.0, one))  # type: ignore[arg-type]
    assert heard == [{"run": "a"}]


@pytest.mark.parametrize("message", BAD[9:20], ids=lambda message: str(message)[:60])
def test_a_recorded_file_with_one_is_a_clear_line(tmp_path: Path, message: Any) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps({"run": "a", "event": message}) + "\n")
    with pytest.raises(EventsError, match=r"events\.jsonl:1: .*delete this line"):
        list(read(path))


def test_a_recorded_file_of_one_endless_line(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"run":' + " " * 2_000)
    with pytest.raises(EventsError, match="longer than 1,000 bytes"):
        list(read(tmp_path / "events.jsonl", longest_line=1_000))
