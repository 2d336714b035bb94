"""Drops all that a run has left on a worker."""

import sys
from typing import Any


async def forget_run(run: str, dask_worker: Any) -> None:
    """On a worker: drops a run's rows, files, last state and watch; from now on nothing is kept for it."""
    if "pipeline.runtime.recorder" not in sys.modules:
        return  # the run was never here: importing all that would block the event loop for nothing
    from pipeline.preprocess.fit import drop_run
    from pipeline.runtime.recorder import end_watch
    from pipeline.training import handover

    drop_run(run)
    handover.end(run)
    await end_watch(run, dask_worker)
