"""What the scheduler says of itself and its workers, asked now."""

from typing import Any

from distributed import Client


def scheduler_info(client: Client, timeout_seconds: float | None = None) -> dict[str, Any]:
    """As `Client.scheduler_info(n_workers=-1)`, whose answer may hold no worker at all.

    Dask's client refreshes what it knows of the scheduler every two seconds, without the workers, in the same place that
    method reads its answer from: a refresh in between empties it.  OSError where the scheduler does not answer, or
    not in time.
    """
    scheduler = client.scheduler
    if scheduler is None:
        raise OSError("the client is closed")
    info: dict[str, Any] = client.sync(scheduler.identity, n_workers=-1, callback_timeout=timeout_seconds)
    return info
