"""Reads what nannies did to workers, and has a nanny kill its worker."""

import contextlib
from typing import Any

from distributed import Client

from pipeline.cluster.scheduler_info import events
from pipeline.runtime.rpc import ANSWER_SECONDS

END_SECONDS = 10.0  # for a nanny to kill a worker
NANNY_SECONDS = 5.0  # for a nanny to answer
ENDED_FOR_MEMORY = "worker-restart-memory"  # Dask's event topic


def end(client: Client, address: str) -> bool:
    """Kills a worker; returns when it is gone, or when its nanny is too slow.

    False if its nanny does not answer either: its host is cut off, or stopped.  Then nothing is done: what Dask does
    without a nanny would close both for good once the host is back.
    """
    if not client.run_on_scheduler(_nanny_answers, address, NANNY_SECONDS):
        return False
    try:
        client.restart_workers([address], timeout=END_SECONDS, raise_for_error=False)
    except KeyError:
        pass  # it has gone meanwhile
    except ValueError:  # it has no nanny
        client.run_on_scheduler(_remove, address)
    return True


async def _nanny_answers(address: str, seconds: float, dask_scheduler: Any = None) -> bool:
    """On the scheduler: whether the worker's nanny answers; True if the worker has none."""
    import asyncio

    from distributed.core import rpc

    worker = dask_scheduler.workers.get(address)
    if worker is None or not worker.nanny:
        return True
    try:
        async with rpc(worker.nanny, connection_args=dask_scheduler.connection_args, timeout=seconds) as nanny:
            await asyncio.wait_for(nanny.identity(), seconds)
    except (OSError, TimeoutError):
        return False
    return True


async def _remove(address: str, dask_scheduler: Any = None) -> None:
    await dask_scheduler.remove_worker(address, stimulus_id="pipeline", close=True)


_remove.__module__ = _nanny_answers.__module__ = "__main__"  # a remote scheduler need not have this package


def ended_for_memory(client: Client) -> set[tuple[str, int]]:
    """Returns all workers that nannies have killed for their memory so far: address and process id.

    Empty if the scheduler does not answer or the client is closed: a loss then has its general reason only.
    """
    with contextlib.suppress(OSError, RuntimeError):
        found = events(client, ENDED_FOR_MEMORY, ANSWER_SECONDS)
        return {(str(event["worker"]), event["pid"]) for _, event in found}
    return set()
