"""Protects the start and the end of a cluster from Ctrl-C, and makes other signals end a run as Ctrl-C does.

The first signal ends a run in order.  The second one ends the process at once, wherever it is.
"""

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from pipeline.cluster.child_processes import kill_children

if TYPE_CHECKING:
    from concurrent.futures import Future

REPEAT_SECONDS = 1.0  # a signal this soon after the first is the same one: `timeout` and Slurm send theirs twice
POLL_SECONDS = 0.5
INTERRUPTED_SECONDS = 10.0  # for work with a limit, once it was interrupted


class Terminated(KeyboardInterrupt):
    """A signal that asks the process to end: from a batch system, a service manager, or a closed terminal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


class Signals:
    """Decides what each signal that asks the process to end does."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: float | None = None  # when the first signal came

    def ends_at_once(self) -> bool:
        """Records a signal; returns whether it is the second one."""
        now = self._clock()
        if self._first is None:
            self._first = now
        return now - self._first > REPEAT_SECONDS


def heed_termination() -> None:
    """Makes SIGTERM and SIGHUP end this process as Ctrl-C does; for our own programs, not for importers.

    A second signal ends it at once, whatever its main thread is waiting for.  A signal that the caller ignores, as
    nohup does with SIGHUP, stays ignored.
    """
    taken = []
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end)
            taken.append(number)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_count, args=(reader, taken, Signals()), name="signals", daemon=True).start()


_ending = False  # state of the process, as are its signal handlers: whether the first signal has come


def _end(number: int, _frame: object) -> None:
    """Handles a signal in the main thread; `_count` handles the second one, without waiting for that thread."""
    global _ending
    if _ending:
        return
    _ending = True
    for stream in (1, 2):  # send later output to a closed terminal to /dev/null, so that it does not fail
        try:
            os.write(stream, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


def _count(reader: int, taken: list[signal.Signals], signals: Signals) -> None:
    """Reads the numbers of signals that Python writes to the pipe, and ends the process at the second signal."""
    while received := os.read(reader, 1):
        if received[0] in taken and signals.ends_at_once():
            _end_at_once(received[0])


def _end_at_once(number: int) -> None:
    """Ends this process and all that it has started, without cleaning up."""
    with contextlib.suppress(OSError):
        os.write(2, f"pipeline: ended at once by a second signal ({signal.Signals(number).name})\n".encode())
    kill_children()
    os._exit(128 + number)


@dataclass(frozen=True)
class Limit:
    """When to give up work that does not end."""

    seconds: float
    error: Callable[[], Exception]  # names the work
    abandon: Callable[[], object]  # ends what the work has begun, as far as possible at once
    interrupted_seconds: float = INTERRUPTED_SECONDS  # the time that is left once the work was interrupted


def wait_a_moment(outcome: "Future[Any]") -> None:
    """Waits for work in another thread, `POLL_SECONDS` at most."""
    with contextlib.suppress(TimeoutError):
        outcome.exception(POLL_SECONDS)


def finish[Result](
    work: Callable[[], Result],
    undo: Callable[[Result], object] | None = None,
    meanwhile: Callable[[], object] = lambda: None,
    limit: Limit | None = None,
    wait: Callable[["Future[Any]"], None] = wait_a_moment,
) -> Result:
    """Runs `work` in a thread that Ctrl-C does not reach, `meanwhile` in this one, and waits for both.

    If interrupted, or if `meanwhile` fails: waits for the work all the same, undoes it, then raises the error.  If
    interrupted twice, or after the limit: abandons the work and raises the error at once.
    Processes that the work starts inherit these signals blocked: a Ctrl-C on the terminal, or its end, goes to the whole
    process group, but the client should end its workers, in order.  It does so by SIGTERM, which is not blocked.
    """
    from concurrent.futures import Future

    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            outcome.set_exception(error)
            return
        outcome.set_result(result)
        if given_up.is_set() and undo is not None:
            undo(result)

    given_up = threading.Event()
    give_up = time.monotonic() + (math.inf if limit is None else limit.seconds)
    left_seconds = math.inf if limit is None else limit.interrupted_seconds
    with signals_blocked():
        thread = threading.Thread(target=run, name="uninterrupted", daemon=True)
        thread.start()
    interrupt: BaseException | None = None
    try:
        meanwhile()
    except BaseException as error:
        interrupt = error
        give_up = min(give_up, time.monotonic() + left_seconds)
    while not outcome.done():
        try:
            wait(outcome)
        except KeyboardInterrupt as error:
            if isinstance(interrupt, KeyboardInterrupt):
                _abandon(limit, given_up)
                raise
            interrupt = error
            give_up = min(give_up, time.monotonic() + left_seconds)
        if limit is not None and not outcome.done() and time.monotonic() > give_up:
            late = limit.error()
            _abandon(limit, given_up)
            raise interrupt or late
    if interrupt is None:
        return outcome.result()
    if undo is not None and outcome.exception() is None:
        undo(outcome.result())
    raise interrupt


abandoned = threading.Event()  # of this process: work that was abandoned may keep threads that never end


def _abandon(limit: Limit | None, given_up: threading.Event) -> None:
    abandoned.set()
    given_up.set()
    if limit is not None:
        limit.abandon()


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Blocks SIGINT and SIGHUP in this thread, and in threads and processes started meanwhile, which inherit that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        # multiprocessing starts its tracker with the first process, and unblocks SIGINT then: do that first.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
