"""Waits for storage that may never answer: reports long waits, limits them, and lets any signal end them.

A server may accept a connection and send nothing, or a byte now and then.  So every request runs in a daemon thread:
the thread that waits for it can give up, and the process can end, while the other is still stuck in a library.
"""

import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any

from pipeline.data.files.retries import TransientReadError
from pipeline.events.types import EventHandler, Note
from pipeline.formatting import without_secrets

SAY_SECONDS = 10.0  # without an answer: a note names what is waited for
LIMIT_SECONDS = 60.0  # for one answer, in addition to the time its bytes take
LISTING_SECONDS = 600.0  # the same for a listing, which a bucket of a million files returns in many answers
LEAST_RATE = 1e6  # bytes a second: a slower server counts as not answering

_told: contextvars.ContextVar[Callable[[str], None] | None] = contextvars.ContextVar("told", default=None)


@contextlib.contextmanager
def notes_to(on_event: EventHandler) -> Iterator[None]:
    """Inside the block, `on_event` gets a note when storage does not answer; at most one per `SAY_SECONDS`."""
    lock, last = threading.Lock(), [float("-inf")]

    def tell(message: str) -> None:
        with lock:
            now = time.monotonic()
            if now - last[0] < SAY_SECONDS:
                return
            last[0] = now
        on_event(Note(message=message))

    token = _told.set(tell)
    try:
        yield
    finally:
        _told.reset(token)


def answer[Result](ask: Callable[[], Result], name: str, nbytes: int = 0, limit: float | None = None) -> Result:
    """Returns or raises what `ask()` does; Hiccup if it has not finished by the limit, which grows with `nbytes`.

    `name`: of the file or folder, for the note.  `limit`: seconds, where it is not `LIMIT_SECONDS`.
    """
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(ask())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="storage", daemon=True).start()
    limit = (LIMIT_SECONDS if limit is None else limit) + max(0, nbytes) / LEAST_RATE
    say = min(SAY_SECONDS, limit)
    if not wait([outcome], say).done:
        if (tell := _told.get()) is not None:
            tell(f"waiting for {without_secrets(name)}: no answer for {say:g} s; given up after {limit:g} s")
        if not wait([outcome], limit - say).done:
            raise TransientReadError(f"no answer within {limit:g} s")
    return outcome.result()


def in_threads[Item, Result](function: Callable[[Item], Result], items: Sequence[Item], count: int) -> list[Result]:
    """The function's results in the order of the items, from at most `count` threads.

    The first error in that order is raised.  Then, and where a signal ends the wait, the remaining threads are
    abandoned.
    """
    count = min(count, len(items))
    if count <= 1:
        return [function(item) for item in items]
    numbers, lock, over = iter(range(len(items))), threading.Lock(), threading.Event()
    done: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        while not over.is_set():
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                done.put((number, function(items[number]), None))
            except BaseException as error:
                done.put((number, None, error))

    for _ in range(count):
        threading.Thread(target=contextvars.copy_context().run, args=(work,), name="survey", daemon=True).start()
    found: dict[int, tuple[Any, BaseException | None]] = {}
    results: list[Result] = []
    try:
        while len(results) < len(items):
            if len(results) in found:
                result, error = found.pop(len(results))
                if error is not None:
                    raise error
                results.append(result)
            else:
                number, result, error = done.get()
                found[number] = (result, error)
    finally:
        over.set()
    return results
