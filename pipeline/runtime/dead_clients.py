"""Scheduler plugin: has the workers drop the runs of a client that is gone.

A killed client cannot do so itself, and the next run, which does it if this plugin fails, may never come.
"""

import asyncio
import logging
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol.pickle import dumps

NAME = "pipeline-dead-clients"  # of the plugin
RETURN_SECONDS = 10.0  # for a client to reconnect; a client gives a run up sooner than that

logger = logging.getLogger("distributed.pipeline")


def install(scheduler: Any, forget: bytes) -> None:
    """Installs the plugin, once.  `scheduler.pipeline_runs`: run -> client (id), for runs that are still registered.

    `forget`: the pickled function that drops a run on a worker.
    """
    scheduler.add_plugin(DeadClients(scheduler, forget), name=NAME, idempotent=True)


class DeadClients(SchedulerPlugin):
    """Receives from the scheduler the clients that it has lost."""

    def __init__(self, scheduler: Any, forget: bytes) -> None:
        self._scheduler, self._forget_run = scheduler, forget
        self._under_way: set[asyncio.Task[None]] = set()  # the loop itself keeps no reference to them

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Called by the scheduler when a client disconnects."""
        asyncio.get_running_loop().call_later(RETURN_SECONDS, self._drop, client)

    def _drop(self, client: str) -> None:
        """Drops the runs of a client that has not come back."""
        if client in self._scheduler.clients:
            return
        for run in [run for run, owner in self._scheduler.pipeline_runs.items() if owner == client]:
            task = asyncio.get_running_loop().create_task(self._forget(run))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _forget(self, run: str) -> None:
        workers = list(self._scheduler.workers)
        message = {"op": "run", "function": self._forget_run, "args": dumps((run,))}
        try:
            answers = await self._scheduler.broadcast(msg=message, workers=workers, on_error="ignore")
        except Exception:  # the scheduler is about to close
            logger.info("run %s of a client that is gone was not dropped", run, exc_info=True)
            return
        if all(answers.get(worker, {}).get("status") == "OK" for worker in workers):  # otherwise the next run drops it
            self._scheduler.pipeline_runs.pop(run, None)
