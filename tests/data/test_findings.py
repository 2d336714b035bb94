"""Findings among the notes of a run: emitted once, as objects in JSON, an error where the job is strict."""

import json
from typing import Any

import pytest

from pipeline.config.job import Job
from pipeline.errors import DataError
from pipeline.events.findings import Finding, findings, plain, text_of
from pipeline.events.types import Event, Note
from pipeline.runtime.context import RunContext
from pipeline.runtime.timing import StageTimer

TEXT = Finding("text", "x is text because of 1 of 400 values: data.csv.missing", "x", 1, "line 400", "data.csv.missing")
SAME = Finding("constant", "y is constant", column="y")


def context_of(strict: bool) -> tuple[RunContext, list[Event]]:
    job = Job.parse({"data": {"source": "x", "strict": strict}})
    heard: list[Event] = []
    nothing: Any = None
    return RunContext(nothing, nothing, job, nothing, [heard.append], StageTimer(begin=0.0)), heard


def test_a_finding_is_emitted_once_like_every_note() -> None:
    run, heard = context_of(strict=False)
    run.emit_note("a worker is slow", TEXT)
    run.emit_note(TEXT, "a worker is slow")
    assert [event.message for event in heard if isinstance(event, Note)] == ["a worker is slow", TEXT.message]
    assert run.notes == ["a worker is slow", TEXT]


def test_strict_makes_findings_errors_and_operational_notes_none() -> None:
    run, heard = context_of(strict=True)
    run.emit_note("a worker is slow")
    with pytest.raises(DataError, match=r"400 values.*; y is constant \(an error by data\.strict\)") as error:
        run.emit_note("another note", TEXT, SAME)
    assert error.value.exit_code == 2
    assert len(heard) == 1


def test_a_finding_is_an_object_in_json() -> None:
    assert json.loads(json.dumps([plain(note) for note in ("slow", SAME)])) == [
        "slow",
        {"kind": "constant", "message": "y is constant", "column": "y", "count": None, "where": None, "setting": None},
    ]
    assert findings(["slow", SAME]) == [SAME]
    assert list(map(text_of, ["slow", SAME])) == ["slow", "y is constant"]
