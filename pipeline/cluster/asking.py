"""Asking the scheduler and workers where it may be that nobody is there to answer."""

import threading
import time
from collections.abc import Callable

from distributed import Client
from distributed.client import ClosedClientError


def in_time(seconds: float, name: str, *asks: Callable[[], object]) -> None:
    """Has all of these done at once, each in a thread of its own, and waits for them so long at most.

    Dask itself waits half a minute for a worker that has gone.  What is not done by then goes on by itself; nothing waits for it at the end of the process.  `asks` raise nothing.
    """
    deadline = time.monotonic() + seconds
    threads = [threading.Thread(target=ask, name=name, daemon=True) for ask in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def if_there[Answer](client: Client, ask: Callable[[], Answer]) -> Answer | None:
    """What `ask` gives; None, and nothing raised or waited for, where the client has no connection, or loses it meanwhile.

    For what is put in order at the end; a run that needs an answer asks without it.
    """
    if client.status != "running":
        return None  # Dask would wait for the scheduler to come back
    try:
        return ask()
    except (OSError, RuntimeError, ClosedClientError):
        return None
    except AttributeError:
        if client.scheduler is not None:  # a client that gives up takes it away under those who are asking
            raise
        return None
