"""Holds everything that runs keep on the scheduler, by run id: their clients, and the workers that they lock.

It also has the workers drop the runs of a client that is gone: a killed client cannot do so itself, and the next run,
which does it otherwise, may never come.

A remote scheduler need not have this package, so the class and the function that calls it are pickled by value: they
use nothing of the package.
"""

import asyncio
import logging
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol.pickle import dumps

NAME = "pipeline-session-2"  # of the plugin; another number for methods that differ: clients may have other versions
RETURN_SECONDS = 10.0  # for a client to reconnect; a client gives a run up sooner than that

logger = logging.getLogger("distributed.pipeline")


class SchedulerSession(SchedulerPlugin):
    """What runs keep on one scheduler.  All methods are called on its event loop."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._runs: dict[str, tuple[str, bytes]] = {}  # run -> its client, and what closes it on a worker
        self._locks: dict[str, tuple[str, str, str]] = {}  # worker -> run, its client, a name of this one lock
        self._under_way: set[asyncio.Task[None]] = set()  # the loop itself keeps no reference to them

    def open_run(self, run: str, client: str, close: bytes) -> list[str]:
        """Registers a run; returns the runs that are still registered and whose clients are gone.

        `close`: pickled function that closes a run on a worker.
        """
        self._runs[run] = client, close
        return [other for other, (owner, _) in self._runs.items() if owner not in self._scheduler.clients]

    def close_run(self, run: str) -> None:
        """Drops everything of a run."""
        self._runs.pop(run, None)
        for worker in [worker for worker, (owner, _, _) in self._locks.items() if owner == run]:
            del self._locks[worker]

    def lock(self, workers: list[str], run: str, client: str, name: str) -> bool:
        """Locks all of these workers, or none; returns whether it did.  Locks of clients that are gone are free.

        So are the run's own: a request that its client gave up waiting for may have been served later.
        """
        for worker in [worker for worker, (_, owner, _) in self._locks.items() if owner not in self._scheduler.clients]:
            del self._locks[worker]
        if any(self._locks[worker][:2] != (run, client) for worker in workers if worker in self._locks):
            return False
        self._locks.update(dict.fromkeys(workers, (run, client, name)))
        return True

    def unlock(self, name: str) -> None:
        """Releases what was locked under this name."""
        for worker in [worker for worker, (_, _, held) in self._locks.items() if held == name]:
            del self._locks[worker]

    def contents(self) -> list[tuple[str, str]]:
        """Returns (run, what) of everything that is kept."""
        found = [(run, f"registered by {client}") for run, (client, _) in self._runs.items()]
        return found + [(run, f"the lock of worker {worker}") for worker, (run, _, _) in self._locks.items()]

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Called by the scheduler when a client disconnects."""
        asyncio.get_running_loop().call_later(RETURN_SECONDS, self._drop, client)

    def _drop(self, client: str) -> None:
        """Drops the runs of a client that has not come back."""
        if client in self._scheduler.clients:
            return
        for worker in [worker for worker, (_, owner, _) in self._locks.items() if owner == client]:
            del self._locks[worker]
        for run, close in [(run, close) for run, (owner, close) in self._runs.items() if owner == client]:
            task = asyncio.get_running_loop().create_task(self._close_on_workers(run, close))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _close_on_workers(self, run: str, close: bytes) -> None:
        workers = list(self._scheduler.workers)
        message = {"op": "run", "function": close, "args": dumps((run,))}
        try:
            answers = await self._scheduler.broadcast(msg=message, workers=workers, on_error="ignore")
        except Exception:  # the scheduler is about to close
            logger.info("run %s of a client that is gone was not dropped", run, exc_info=True)
            return
        if all(answers.get(worker, {}).get("status") == "OK" for worker in workers):  # otherwise the next run drops it
            self.close_run(run)


def call(method: str, *arguments: Any, dask_scheduler: Any = None) -> Any:
    """On the scheduler: calls a method of its session, which the first call makes.  For `Client.run_on_scheduler`."""
    if NAME not in dask_scheduler.plugins:
        dask_scheduler.add_plugin(SchedulerSession(dask_scheduler), name=NAME)
    return getattr(dask_scheduler.plugins[NAME], method)(*arguments)


# What belongs to `__main__` is pickled by value, methods by themselves.
SchedulerSession.__module__ = call.__module__ = "__main__"
for method in vars(SchedulerSession).values():
    if callable(method):
        method.__module__ = "__main__"
