"""Records events in a file, one JSON line each: `--events FILE` writes it and `pipeline watch FILE` reads it.

    {"run": "3f2a", "event": {"event": "RoundDone", "version": 1, "time": 1790000000.5, "round": 7, ...}}

A file may hold several runs.  It is flushed after every line, so that it can be read while it is written; its last
line may then be incomplete; a writer that continues the file removes it.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.config.urls import local_path
from pipeline.errors import OutputError, UserError, one_line
from pipeline.events.types import Event, EventHandler, Note, Started, decode, encode, run_id

Write = Callable[[str, Event], None]
LONGEST_LINE = 64 << 20  # bytes; the places of 100,000 workers take 20 MB
BEGIN = b'{"run":'  # start of every line
LEFT = "so it is not changed; give another file"


class EventsError(UserError):
    """A recorded file cannot be read: it is missing, damaged, or of another version."""


@contextlib.contextmanager
def recording(path: Path, tell: Callable[[str], None]) -> Iterator[Write]:
    """A function that appends an event of a run to the file, continuing an existing one; thread-safe.

    OutputError where it cannot be written, EventsError where it holds something else; such a file is not changed.  A
    later error, such as a full disk, ends the recording and not the run: `tell` gets one line, once.
    """
    path = local_path(path)
    try:
        if path.exists() and path.stat().st_size:
            _continue(path)
        file = path.open("ab")
    except OSError as error:
        raise OutputError(f"{path}: events cannot be written there: {error.strerror}") from None
    lock = threading.Lock()

    def write(run: str, event: Event) -> None:
        with lock:
            if file.closed:
                return
            try:
                file.write(line_of(run, event))
                file.flush()
            except OSError as error:
                with contextlib.suppress(OSError):
                    file.close()
                tell(f"{path}: no more events are recorded: {error.strerror}")

    try:
        yield write
    finally:
        with lock, contextlib.suppress(OSError):
            file.close()


@contextlib.contextmanager
def recorded(path: Path, on_event: EventHandler) -> Iterator[EventHandler]:
    """An event handler that records a run's events and passes them on; errors as in `recording`.

    Events emitted before the run has an id are recorded with it.
    """
    run, early, lock = "", list[Event](), threading.Lock()
    with recording(path, lambda line: on_event(Note(message=line))) as write:

        def hear(event: Event) -> None:
            nonlocal run
            on_event(event)
            with lock:
                run = event.run if isinstance(event, Started) else run
                early.append(event)
                said, early[:] = (early[:], []) if run else ([], early)
            for one in said:
                write(run, one)

        yield hear


def line_of(run: str, event: Event) -> bytes:
    """The line for one event."""
    return json.dumps({"run": run, "event": encode(event)}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def read(path: Path, longest_line: int = LONGEST_LINE) -> Iterator[tuple[str, Event]]:
    """The events of a file with their runs' ids, in the order in which they were written.

    EventsError names the file and the line that cannot be read, or has `longest_line` bytes or more.
    """
    with contextlib.closing(Reader(path, longest_line)) as reader:
        yield from reader.new()


class Reader:
    """Reads a file that may still be written; EventsError where it does not exist."""

    def __init__(self, path: Path, longest_line: int = LONGEST_LINE) -> None:
        """`longest_line`: bytes."""
        self._path, self._longest, self._number = path, longest_line, 0
        try:
            if path.exists() and not (path.is_file() or path.is_dir()):  # opening a pipe waits for its other end
                raise EventsError(f"{path}: no recorded events: not a regular file")
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise EventsError(f"{path}: no recorded events: {error.strerror}") from None

    def new(self) -> Iterator[tuple[str, Event]]:
        """The events since the last call; an incomplete line is returned by a later call."""
        while True:
            place = self._file.tell()
            line = self._file.readline(self._longest)
            if len(line) == self._longest and not line.endswith(b"\n"):
                raise EventsError(
                    f"{self._path}:{self._number + 1}: longer than {self._longest:,} bytes: no line of events"
                )
            if not line.endswith(b"\n"):
                self._file.seek(place)
                return
            self._number += 1
            if line.strip():
                yield self._event(line)

    def close(self) -> None:
        self._file.close()

    def _event(self, line: bytes) -> tuple[str, Event]:
        where = f"{self._path}:{self._number}"
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise EventsError(
                f"{where}: damaged, not a line of JSON; delete this line to see the others, or record the run again"
            ) from None
        try:
            return _decoded(message)
        except (ValueError, TypeError, KeyError) as error:
            reason = one_line(str(error))
            raise EventsError(
                f"{where}: {reason}; read it with the version of the pipeline that recorded it, or delete this line"
            ) from None


def _decoded(message: Any) -> tuple[str, Event]:
    if not isinstance(message, dict) or not isinstance(message.get("run"), str) or "event" not in message:
        raise ValueError('not an event: {"run": ..., "event": ...} is expected')
    if not isinstance(message["event"], dict):
        raise ValueError("not an event: its fields are missing")
    return run_id(message.get("run")), decode(message["event"])


def _continue(path: Path) -> None:
    """Removes an incomplete last event; EventsError where the file begins or ends with something that is no event."""
    with path.open("r+b") as file:
        if file.read(len(BEGIN)) != BEGIN:
            raise EventsError(f"{path}: does not begin with an event, {LEFT}")
        for _ in read(path):  # checks that all are of this version
            break
        end = size = file.seek(0, 2)
        while not _ends_line(file, end):
            end -= 1
        file.seek(end)
        if end < size and file.read(len(BEGIN)) != BEGIN:
            raise EventsError(f"{path}: ends with something that is no event, {LEFT}")
        file.truncate(end)


def _ends_line(file: BinaryIO, end: int) -> bool:
    """Whether a line ends, or the first one begins, at this place."""
    file.seek(max(0, end - 1))
    return not end or file.read(1) == b"\n"
