"""Work that Ctrl-C must not cut in half: starting a cluster, and closing one.  Other signals that end a run as it does."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from multiprocessing import resource_tracker


class Terminated(KeyboardInterrupt):
    """A signal that asks the process to end: of a batch system, a service manager, a terminal that is closed."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


def heed_termination() -> None:
    """Makes SIGTERM and SIGHUP end this process as Ctrl-C does; for programs of our own, not for those that use us.

    What the caller wants ignored, as nohup does with SIGHUP, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _frame: object) -> None:
    for stream in (1, 2):  # what is still said to a terminal that is gone goes nowhere, instead of failing
        try:
            os.write(stream, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    raise Terminated(number)


def finish[Result](
    work: Callable[[], Result],
    undo: Callable[[Result], object] | None = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> Result:
    """Runs `work` in a thread that Ctrl-C does not reach, `meanwhile` in this one, and waits for both.

    Interrupted, or failed here: the work is awaited all the same, then undone, then the error is raised.
    Processes that the work starts are born with these signals blocked: a Ctrl-C on the terminal, or its end, goes to
    the whole group, and workers are to be ended by their client, in order.  SIGTERM, by which that is done, gets through.
    """
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    with _blocked():
        thread = threading.Thread(target=run, name="uninterrupted", daemon=True)
        thread.start()
    interrupt: BaseException | None = None
    try:
        meanwhile()
    except BaseException as error:
        interrupt = error
    while not outcome.done():
        try:
            outcome.exception()
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is None:
        return outcome.result()
    if undo is not None and outcome.exception() is None:
        finish(lambda: undo(outcome.result()))
    raise interrupt


@contextlib.contextmanager
def _blocked() -> Iterator[None]:
    """SIGINT and SIGHUP blocked in this thread, and in threads and processes started meanwhile, which keep them so."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        # multiprocessing starts its tracker with the first process, and unblocks SIGINT as it does: have it behind us.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
