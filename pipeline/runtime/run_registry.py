"""Registers runs on the scheduler, so that it, or the next run, can drop the runs of a killed client.

The scheduler keeps each run with its client, and notices itself when a client is gone.
"""

from collections.abc import Callable
from typing import Any

from distributed import Client
from distributed.protocol.pickle import dumps


def register(client: Client, run: str, forget: Callable[..., object]) -> list[str]:
    """Registers a run of this client; returns the runs that are still registered and whose clients are gone.

    `forget`: drops a run on a worker; the scheduler calls it if the client is gone.
    """
    dead: list[str] = client.run_on_scheduler(_register, run, client.id, dumps(forget))
    return dead


def unregister(client: Client, *runs: str) -> None:
    """Unregisters runs: the workers have nothing of them any more."""
    client.run_on_scheduler(_unregister, runs)


def _register(run: str, owner: str, forget: bytes, dask_scheduler: Any = None) -> list[str]:
    runs = dask_scheduler.__dict__.setdefault("pipeline_runs", {})  # run -> client
    runs[run] = owner
    try:
        from pipeline.runtime.dead_clients import install
    except ImportError:
        pass  # a scheduler without this package, or with another version: the next run drops what is left
    else:
        install(dask_scheduler, forget)
    return [other for other, client in runs.items() if client not in dask_scheduler.clients]


def _unregister(runs: tuple[str, ...], dask_scheduler: Any = None) -> None:
    for run in runs:
        dask_scheduler.__dict__.get("pipeline_runs", {}).pop(run, None)


# A remote scheduler need not have this package: functions of `__main__` are pickled by value.
_register.__module__ = _unregister.__module__ = "__main__"
