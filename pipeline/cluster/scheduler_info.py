"""Asks the scheduler for its current state and that of its workers."""

from typing import Any

from distributed import Client


def scheduler_info(client: Client, timeout_seconds: float | None = None) -> dict[str, Any]:
    """Returns what `Client.scheduler_info(n_workers=-1)` should: that method's answer may lack all workers.

    Dask's client refreshes its copy of the scheduler's state every two seconds, without the workers, in the same place
    that the method reads its answer from: a refresh in between empties it.  OSError if the scheduler does not answer,
    or not in time.
    """
    info: dict[str, Any] = client.sync(_scheduler(client).identity, n_workers=-1, callback_timeout=timeout_seconds)
    return info


def events(client: Client, topic: str, timeout_seconds: float) -> tuple[tuple[float, Any], ...]:
    """Returns what `Client.get_events(topic)` does, with a limit of time.  OSError as above."""
    found: tuple[tuple[float, Any], ...] = client.sync(
        _scheduler(client).events, topic=topic, callback_timeout=timeout_seconds
    )
    return found


def _scheduler(client: Client) -> Any:
    """Returns the client's RPC to its scheduler; a client that gives up removes it, even during a call."""
    scheduler = client.scheduler
    if scheduler is None:
        raise OSError("the client is closed")
    return scheduler
