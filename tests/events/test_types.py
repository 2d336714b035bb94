"""The vocabulary of events: they cross processes unchanged, and the table lists them."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Mapping

import msgpack
import pytest

from pipeline.events import types as events
from pipeline.events.types import KINDS, Event, Note, Place, RoundDone, decode, encode

PLACES = (Place("0", 10, 0.4, 0.5, 2, 0, 1), Place("1", 15, 0.6, 0.5, 2, 100, 1))
VALUES = {
    int: 7, float: 0.25, str: "text", tuple[float, ...]: (0.5, 1.5), int | None: None, float | None: 0.5, typing.Any: 1, tuple[Place, ...]: PLACES,
    Mapping[str, str]: {"training.rounds": "50"}, Mapping[str, float]: {"validation.auc": 0.5},
}  # fmt: skip


def example(kind: type[Event]) -> Event:
    """An event with a value of the right type in every field."""
    return kind(**{name: VALUES[annotation] for name, annotation in typing.get_type_hints(kind).items()})


@pytest.mark.parametrize("name", KINDS)
def test_events_cross_processes_unchanged(name: str) -> None:
    event = example(KINDS[name])
    packed = msgpack.packb(encode(event))  # what Dask's log_event does
    assert decode(msgpack.unpackb(packed)) == event


def test_every_event_is_known_by_its_name() -> None:
    defined = {
        events.wire_name(value)
        for value in vars(events).values()
        if inspect.isclass(value) and issubclass(value, Event)
    }
    assert defined - {"Event"} == KINDS.keys()


def test_the_table_lists_the_events_and_their_fields() -> None:
    lines = re.findall(r"^\| (\w+) +\|[^|]*\| ([\w, ]+?) +\|$", str(events.__doc__), re.MULTILINE)
    table = {name: fields.split(", ") for name, fields in lines if name != "event"}
    found = {kind.__name__: [f.name for f in dataclasses.fields(kind) if f.name != "time"] for kind in KINDS.values()}
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


@pytest.mark.parametrize("fields", [{"message": "a", "more": 1}, {}])
def test_other_fields_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not the fields of Note"):
        decode({"event": "Note", "version": 1, **fields})
