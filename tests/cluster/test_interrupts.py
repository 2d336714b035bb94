"""Signals that end a run, in processes of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

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
