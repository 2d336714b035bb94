"""Signals that end a run, in processes of their own, and work that does not end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import psutil
import pytest

from pipeline.cluster.interrupts import Limit, Signals, finish

WAIT = """
import sys
from pipeline.cluster.interrupts import Terminated, heed_termination
heed_termination()
try:
    print("ready", flush=True)
    sys.stdin.read()
except Terminated as error:
    print(error, isinstance(error, KeyboardInterrupt), flush=True)
"""


@pytest.fixture(autouse=True)
def no_nohup() -> Iterator[None]:
    """The tests themselves may run under nohup, and children inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def told(number: signal.Signals, *prefix: str) -> str:
    command = [*prefix, sys.executable, "-c", WAIT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        return process.communicate()[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ends_as_ctrl_c_does(number: signal.Signals) -> None:
    assert told(number) == f"ended by {number.name} True\n"


def test_what_is_to_be_ignored_stays_ignored() -> None:
    assert told(signal.SIGHUP, "nohup") == ""


def test_users_of_the_library_keep_their_handlers() -> None:
    import pipeline.cluster.connect  # noqa: F401

    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_terminal_that_is_gone_is_no_second_error() -> None:
    terminal, ours = os.openpty()
    code = WAIT.replace('print("ready", flush=True)', "print('ready', file=sys.stderr, flush=True)")
    code = code.replace("print(error, isinstance", "print('x' * 9, flush=True); sys.exit(3); print(isinstance")
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=ours, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        os.close(ours)
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        assert process.communicate()[1] == ""
    assert process.returncode == 3


TWICE = """
import subprocess, sys, threading
from pipeline.cluster import interrupts
interrupts.REPEAT_SECONDS = -1.0
interrupts.heed_termination()
child = subprocess.Popen(["sleep", "100"])
never = threading.Event()
def swallow():
    try:
        print(child.pid, flush=True)
        never.wait()
    except KeyboardInterrupt:
        print("caught", flush=True)
interrupts.Signals.ends_at_once = lambda self, count=iter(range(9)): next(count) > 0
swallow()
interrupts.finish(never.wait)  # as a cluster whose start hangs
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_second_signal_ends_at_once_and_leaves_no_process(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TWICE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        process.send_signal(number)
        assert process.stdout.readline() == "caught\n"
        process.send_signal(number)
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 128 + number
    assert said == f"pipeline: ended at once by a second signal ({number.name})\n"
    child.wait(10)


def test_the_same_signal_sent_twice_is_one() -> None:
    """As `timeout` does: to its child, and to the group that the child is in."""
    now = [5.0]
    signals = Signals(clock=lambda: now[0])
    assert not signals.ends_at_once()
    now[0] += 0.9
    assert not signals.ends_at_once()
    now[0] += 0.2
    assert signals.ends_at_once()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_work_that_does_not_end_has_a_limit() -> None:
    hung, abandoned, undone = threading.Event(), [], threading.Event()
    limit = Limit(0.0, lambda: OSError("too slow"), lambda: abandoned.append(1))
    with pytest.raises(OSError, match="too slow"):
        finish(hung.wait, lambda _: undone.set(), limit=limit)
    assert abandoned == [1]
    hung.set()
    assert undone.wait(5)  # what came of it after all is not left alone


def test_work_that_was_interrupted_gets_some_time() -> None:
    hung = threading.Event()
    limit = Limit(1e9, lambda: OSError("too slow"), hung.set, interrupted_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        finish(hung.wait, meanwhile=interrupt, limit=limit)
    assert hung.is_set()


def test_work_that_was_interrupted_twice_is_abandoned() -> None:
    hung = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        finish(hung.wait, meanwhile=interrupt, wait=lambda outcome: interrupt())
    hung.set()
