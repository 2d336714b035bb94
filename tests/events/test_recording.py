"""Events in a file: what was written is read, whatever happened to the file in between is reported in a line."""

import json
import os
from pathlib import Path

import pytest

from pipeline.errors import OutputError
from pipeline.events.recording import EventsError, Reader, line_of, read, recording
from pipeline.events.types import Note, RoundDone, Started
from tests.dashboard import recorded


def silent(line: str) -> None:
    pytest.fail(line)


def write(path: Path) -> list[bytes]:
    lines = [line_of(run, event) for run, event in recorded.failed()]
    path.write_bytes(b"".join(lines))
    return lines


def test_every_event_comes_back(tmp_path: Path) -> None:
    path, said = tmp_path / "events.jsonl", list(recorded.everything())
    with recording(path, silent) as write_event:
        for run, event in said:
            write_event(run, event)
            assert path.stat().st_size > 0  # flushed after every line
    assert list(read(path)) == said


def test_names_of_any_kind(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    event = Note(time=1.0, message='Überlänge "<b>"\n\u2028\x1b')
    nan = RoundDone(time=2.0, round=1, rounds=2, metrics={"auc": float("inf")}, best_round=1, rows_per_second=0.0)
    path.write_bytes(line_of("läuft", event) + line_of("läuft", nan))
    assert list(read(path)) == [("läuft", event), ("läuft", nan)]


def test_a_file_that_is_still_written(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = write(path)
    path.write_bytes(lines[0] + lines[1][:20])
    reader = Reader(path)
    assert len(list(reader.new())) == 1
    assert list(reader.new()) == []
    with path.open("ab") as file:
        file.write(lines[1][20:] + lines[2])
    assert len(list(reader.new())) == 2
    reader.close()


def test_writing_on_after_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = write(path)
    path.write_bytes(lines[0] + lines[1][:20])
    with recording(path, silent) as write_event:
        write_event("next", Started(time=5.0, verb="train", run="next"))
    assert [run for run, _ in read(path)] == ["broken-01", "next"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{not json}\n", "damaged, not a line of JSON"),
        (b"\xff\xfe\x00\n", "damaged, not a line of JSON"),
        (b"[" * 100_000 + b"\n", "damaged, not a line of JSON"),
        (b"[1, 2]\n", "not an event"),
        (b'{"run": "a", "event": 3}\n', "not an event"),
        (b'{"run": 3, "event": {}}\n', "not an event"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    path = tmp_path / "events.jsonl"
    lines = write(path)
    path.write_bytes(lines[0] + line + lines[1])
    with pytest.raises(EventsError, match=rf"events\.jsonl:2: {said}.*delete this line"):
        list(read(path))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": 99}, "not an event of version 1: 'RoundDone' of version 99"),
        ({"event": "Rounded"}, "not an event of version 1: 'Rounded'"),
        ({"more": 1}, "not the fields of RoundDone"),
        ({"round": "many"}, "RoundDone.round is not a whole number"),
        ({"time": None}, "RoundDone.time is not a number"),
        ({"metrics": {"auc": "good"}}, "RoundDone.metrics.auc is not a number"),
    ],
)
def test_another_version_is_named(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    path = tmp_path / "events.jsonl"
    event = RoundDone(time=2.0, round=1, rounds=2, metrics={"auc": 1.0}, best_round=1, rows_per_second=0.0)
    message = json.loads(line_of("a", event))
    message["event"] |= changed
    path.write_text(json.dumps(message) + "\n")
    with pytest.raises(EventsError, match=rf"events\.jsonl:1: {said}") as caught:
        list(read(path))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EventsError, match=r"none\.jsonl: no recorded events: No such file"):
        list(read(tmp_path / "none.jsonl"))
    with pytest.raises(EventsError, match="Is a directory"):
        list(read(tmp_path))


def test_writing_on_after_nothing_but_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = write(path)
    path.write_bytes(lines[0][:20])
    with recording(path, silent) as write_event:
        write_event("next", Started(time=5.0, verb="train", run="next"))
    assert [run for run, _ in read(path)] == ["next"]


@pytest.mark.parametrize(
    "content",
    [
        b"years of work\n",
        b"one line of notes",
        b'{"a": 1}\n',
        b'{"run": "a", "event": {"event": "Walk"}}\n',
        b"\n\n",
        b"{",
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "thesis.txt"
    path.write_bytes(content)
    said = r"thesis\.txt(: does not begin with an event|:1: not an event)"
    with pytest.raises(EventsError, match=said), recording(path, silent):
        pass
    assert path.read_bytes() == content


def test_notes_after_the_events_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    content = write(path)[0] + b"the run of Monday"
    path.write_bytes(content)
    with pytest.raises(EventsError, match="ends with something that is no event"), recording(path, silent):
        pass
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
def test_a_file_without_an_end_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EventsError, match=f"{name}: no recorded events: not a regular file"):
        list(read(tmp_path / name))


def test_a_folder_cannot_be_written_to(tmp_path: Path) -> None:
    said = "events cannot be written there: Is a directory"
    with pytest.raises(OutputError, match=said), recording(tmp_path, silent):
        pass


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="events cannot be written there: No such file"),
        recording(tmp_path / "no" / "events.jsonl", silent),
    ):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, a disk that is always full")
def test_a_full_disk_ends_the_recording_and_is_reported_once() -> None:
    told: list[str] = []
    with recording(Path("/dev/full"), told.append) as write_event:
        for run, event in recorded.failed():
            write_event(run, event)
    assert told == ["/dev/full: no more events are recorded: No space left on device"]
