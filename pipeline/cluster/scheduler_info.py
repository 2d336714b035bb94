"""What the scheduler says of itself and its workers, asked now."""

from typing import Any

from distributed import Client


def scheduler_info(client: Client, timeout_seconds: float | None = None) -> dict[str, Any]:
    """As `Client.scheduler_info(n_workers=-1)`, whose answer may hold no worker at all.

    Dask's client refreshes what it knows of the scheduler every two seconds, without the workers, in the same place that
    method reads its answer from: a refresh in between empties it.  OSError where the scheduler does not answer, or
    not in time.
    """
    info: dict[str, Any] = client.sync(_scheduler(client).identity, n_workers=-1, callback_timeout=timeout_seconds)
    return info


def events(client: Client, topic: str, timeout_seconds: float) -> tuple[tuple[float, Any], ...]:
    """As `Client.get_events(topic)`, whose answer may never come.  OSError as above."""
    found: tuple[tuple[float, Any], ...] = client.sync(
        _scheduler(client).events, topic=topic, callback_timeout=timeout_seconds
    )
    return found


def _scheduler(client: Client) -> Any:
    """How the client asks its scheduler; one that gives up takes it away, whoever is asking."""
    scheduler = client.scheduler
    if scheduler is None:
        raise OSError("the client is closed")
    return scheduler
