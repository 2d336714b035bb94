"""Waiting for several calls at once, and no longer than a limit."""

import threading
import time
from collections.abc import Callable


def in_time(seconds: float, name: str, *asks: Callable[[], object]) -> None:
    """Has all of these done at once, each in a thread of its own, and waits for them so long at most.

    Dask itself waits half a minute for a worker that has gone, and for ever for a scheduler that has stopped.  What is not
    done by then goes on by itself; nothing waits for it at the end of the process.  `asks` raise nothing.
    """
    deadline = time.monotonic() + seconds
    threads = [threading.Thread(target=ask, name=name, daemon=True) for ask in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
