"""Runs several calls in parallel and waits no longer than a limit."""

import threading
import time
from collections.abc import Callable


def call_with_deadline(seconds: float, name: str, *asks: Callable[[], object]) -> None:
    """Runs all of these in parallel, each in its own thread, and waits for them at most `seconds`.

    Dask itself waits half a minute for a worker that has gone, and for ever for a scheduler that has stopped.  Calls
    that are not done by then keep running; the end of the process does not wait for them.  `asks` must not raise.
    """
    deadline = time.monotonic() + seconds
    threads = [threading.Thread(target=ask, name=name, daemon=True) for ask in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
