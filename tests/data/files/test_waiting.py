"""Storage that does not answer: noted, limited, and no hindrance to the end of a process."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.data.describe import describe
from pipeline.data.files import retries, waiting
from pipeline.data.files.retries import RetryPolicy, TransientReadError, patiently
from pipeline.data.files.storage import errors_of
from pipeline.data.files.waiting import answer, in_threads, notes_to
from pipeline.errors import ReadError
from pipeline.events.types import Event, Note


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SAY_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "LIMIT_SECONDS", 0.3)
    monkeypatch.setattr(retries, "RETRY_POLICY", RetryPolicy(longest_seconds=0.2))


class SilentFileSystem(MemoryFileSystem):
    """Behind silent://, as a server that accepts connections and sends nothing."""

    protocol = "silent"
    cachable = False

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        sys.stderr.write("asked\n")
        sys.stderr.flush()
        threading.Event().wait(600)
        raise AssertionError("no wait may take so long")


fsspec.register_implementation("silent", SilentFileSystem, clobber=True)


def test_answers_and_errors_come_through() -> None:
    assert answer(lambda: 7, "x") == 7
    with pytest.raises(FileNotFoundError):
        answer(lambda: os.stat("/nowhere"), "x")


def test_no_answer(short: None) -> None:
    said: list[Event] = []
    never = threading.Event()
    with notes_to(said.append), pytest.raises(TransientReadError, match=r"no answer within 0\.3 s"):
        answer(never.wait, "http://user:secret@host/x.parquet?sig=1")
    never.set()
    (note,) = said
    assert isinstance(note, Note)
    assert note.message.startswith(
        "waiting for http://***@host/x.parquet?***: no answer for 0.05 s; given up after 0.3 s"
    )


def test_a_server_that_is_silent_is_not_asked_again_and_again(short: None) -> None:
    said: list[Event] = []
    with (
        notes_to(said.append),
        pytest.raises(ReadError, match=r"x\.parquet: cannot be read after 1 try: no answer within"),
    ):
        describe("silent://bucket/x.parquet")
    assert len(said) == 1


def test_an_interrupt_that_became_another_error_is_no_reason_to_try_again() -> None:
    def ask() -> None:
        try:
            raise KeyboardInterrupt
        finally:
            threading.Lock().release()

    def read() -> None:
        with errors_of("x"):
            ask()

    with pytest.raises(KeyboardInterrupt):
        patiently(read, "x", RetryPolicy(sleep=lambda seconds: None))


def test_tries_end_with_the_time() -> None:
    times = iter([0.0, 10.0, 70.0])
    patience = RetryPolicy(sleep=lambda seconds: None, longest_seconds=60, clock=lambda: next(times))

    def read() -> None:
        raise TransientReadError("busy")

    with pytest.raises(ReadError, match="after 2 tries: busy"):
        patiently(read, "x", patience)


def test_results_of_threads_come_in_order_and_so_do_errors() -> None:
    first = threading.Event()

    def work(item: int) -> int:
        if item == 3:
            first.wait(5)
        if item == 5:
            first.set()
        if item in (3, 5):
            raise ValueError(item)
        return item * 2

    assert in_threads(work, [0, 1, 2], 2) == [0, 2, 4]
    with pytest.raises(ValueError, match="3"):
        in_threads(work, range(8), 4)
    assert in_threads(work, [], 4) == []


SURVEY = """
import sys, time
from pipeline.cluster import interrupts
from pipeline.data.files.waiting import in_threads
interrupts.heed_termination()
print("asked", file=sys.stderr, flush=True)
in_threads(lambda item: time.sleep(600), range(40), 16)
"""
DESCRIBE = """
import sys
import tests.data.files.test_waiting
from pipeline.cli.main import main
sys.argv = ["pipeline", "describe", "silent://bucket/x.parquet"]
main()
"""


@pytest.mark.parametrize("script", [SURVEY, DESCRIBE], ids=["survey", "describe"])
def test_a_signal_ends_a_process_that_waits_for_storage(script: str) -> None:
    """Once: the footers of many files are read in threads, whose pool must not be waited for."""
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "asked\n"
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    if script == DESCRIBE:
        assert process.returncode == 128 + signal.SIGTERM
        assert errors == "pipeline: ended by SIGTERM\n"
