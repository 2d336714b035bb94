"""What nannies have done to workers, and having them end one."""

import contextlib
from typing import Any

from distributed import Client

from pipeline.cluster.asking import ANSWER_SECONDS
from pipeline.cluster.identity import events

END_SECONDS = 10.0  # for a nanny to end a worker
ENDED_FOR_MEMORY = "worker-restart-memory"  # Dask's event topic


def end(client: Client, address: str) -> None:
    """Returns when the worker has gone, or its nanny is too slow."""
    try:
        client.restart_workers([address], timeout=END_SECONDS, raise_for_error=False)
    except KeyError:
        pass  # it has gone meanwhile
    except ValueError:  # it has no nanny
        client.run_on_scheduler(_remove, address)


async def _remove(address: str, dask_scheduler: Any = None) -> None:
    await dask_scheduler.remove_worker(address, stimulus_id="pipeline", close=True)


_remove.__module__ = "__main__"  # a scheduler elsewhere need not have this package


def more_memory(client: Client) -> str:
    """What to do where workers need more memory than they may have."""
    if client.cluster is None:
        return "give the workers more (dask worker --memory-limit)"
    return "raise cluster.memory, or use fewer workers with more memory each"


def nannies(client: Client) -> dict[Any, Any]:
    """Those of a cluster of ours, by the names of their workers."""
    nannies = getattr(client.cluster, "workers", None) or {}
    return {name: nanny for name, nanny in nannies.items() if hasattr(nanny, "exits")}


def ended_for_memory(client: Client) -> set[tuple[str, int]]:
    """The workers that nannies have ended for their memory, ever: address and process id."""
    with contextlib.suppress(OSError, RuntimeError):
        found = events(client, ENDED_FOR_MEMORY, ANSWER_SECONDS)
        return {(str(event["worker"]), event["pid"]) for _, event in found}
    return set()
