"""The vocabulary of events: what is said crosses processes unchanged, and the table says what there is."""

import dataclasses
import inspect
import re
import typing

import msgpack
import pytest

from pipeline import events
from pipeline.events import KINDS, Event, Note, RoundDone, decode, encode

VALUES = {int: 7, float: 0.25, str: "text", int | None: None, typing.Any: 1}


def example(kind: type[Event]) -> Event:
    """An event with a value of the right type in every field."""
    values = {}
    for name, annotation in typing.get_type_hints(kind).items():
        values[name] = {"validation.auc": 0.5} if typing.get_args(annotation)[:1] == (str,) else VALUES[annotation]
    return kind(**values)


@pytest.mark.parametrize("name", KINDS)
def test_events_cross_processes_unchanged(name: str) -> None:
    event = example(KINDS[name])
    packed = msgpack.packb(encode(event))  # what Dask's log_event does
    assert decode(msgpack.unpackb(packed)) == event


def test_every_event_is_known_by_its_name() -> None:
    defined = {name for name, value in vars(events).items() if inspect.isclass(value) and issubclass(value, Event)}
    assert defined - {"Event"} == KINDS.keys()


def test_the_table_lists_the_events_and_their_fields() -> None:
    lines = re.findall(r"^\| (\w+) +\|[^|]*\| ([\w, ]+?) +\|$", str(events.__doc__), re.MULTILINE)
    table = {name: fields.split(", ") for name, fields in lines if name != "event"}
    found = {name: [f.name for f in dataclasses.fields(kind) if f.name != "time"] for name, kind in KINDS.items()}
    assert table == found


def test_times_are_taken_where_it_happened() -> None:
    assert Note(message="a", time=3.0).time == 3.0
    assert Note(message="a").time > 1e9


def test_events_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Note(message="a").message = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"version": None}, {"event": "Rumour"}, {"event": None}, {"event": "Event"}]
)
def test_what_is_not_understood_is_refused(change: dict[str, object]) -> None:
    message = encode(RoundDone(round=1, rounds=2, metrics={}, best_round=1, rows_per_second=1.0))
    with pytest.raises(ValueError, match="not an event of version 1"):
        decode({**message, **change})
