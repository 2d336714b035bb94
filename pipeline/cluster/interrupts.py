"""Work that Ctrl-C must not cut in half: starting a cluster, and closing one."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from multiprocessing import resource_tracker


def finish[Result](
    work: Callable[[], Result],
    undo: Callable[[Result], object] | None = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> Result:
    """Runs `work` in a thread that Ctrl-C does not reach, `meanwhile` in this one, and waits for both.

    Interrupted, or failed here: the work is awaited all the same, then undone, then the error is raised.
    Processes that the work starts are born with the signal blocked: a Ctrl-C on the terminal goes to the whole group,
    and workers are to be ended by their client, in order.
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
    """SIGINT blocked in this thread, and in threads and processes started meanwhile, which keep it so."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # multiprocessing starts its tracker with the first process, and unblocks the signal as it does: have it behind us.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
