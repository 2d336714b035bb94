"""Which runs a scheduler knows of: what a killed client could not drop on the workers, the scheduler does, or the next run.

The scheduler keeps the runs with their clients, of which it notices itself that they have gone.
"""

from collections.abc import Callable
from typing import Any

from distributed import Client
from distributed.protocol.pickle import dumps


def enter(client: Client, run: str, forget: Callable[..., object]) -> list[str]:
    """Enters a run of this client; the runs that were not left and whose clients have gone.

    `forget`: drops a run on a worker, for the scheduler to call where the client is gone.
    """
    dead: list[str] = client.run_on_scheduler(_enter, run, client.id, dumps(forget))
    return dead


def leave(client: Client, *runs: str) -> None:
    """Strikes runs off: the workers have nothing of them any more."""
    client.run_on_scheduler(_leave, runs)


def _enter(run: str, owner: str, forget: bytes, dask_scheduler: Any = None) -> list[str]:
    runs = dask_scheduler.__dict__.setdefault("pipeline_runs", {})  # run -> client
    runs[run] = owner
    try:
        from pipeline.runtime.dead_clients import install
    except ImportError:
        pass  # a scheduler without this package, or with another version: the next run drops what is left
    else:
        install(dask_scheduler, forget)
    return [other for other, client in runs.items() if client not in dask_scheduler.clients]


def _leave(runs: tuple[str, ...], dask_scheduler: Any = None) -> None:
    for run in runs:
        dask_scheduler.__dict__.get("pipeline_runs", {}).pop(run, None)


# A scheduler elsewhere need not have this package: functions of `__main__` travel by value.
_enter.__module__ = _leave.__module__ = "__main__"
