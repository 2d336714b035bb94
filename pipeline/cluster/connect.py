"""Connects to a cluster, the only way in the package: `with connect(job) as client`."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from distributed import Client

from pipeline.cluster import logs
from pipeline.cluster.head_start import HeadStart
from pipeline.cluster.launchers.existing import ExistingLauncher
from pipeline.cluster.launchers.launched import Launcher
from pipeline.cluster.launchers.local import LocalLauncher, OnClose
from pipeline.config.job import Cluster, Job


@dataclass(frozen=True)
class LoadedModules:
    """Names of modules that processes of a cluster load; this package knows nothing else about them."""

    preloads: tuple[str, ...] = ()  # for the scheduler of a local cluster that has a dashboard
    warm_up: tuple[str, ...] = ()  # imported by the workers of a local cluster as they start
    tasks: tuple[str, ...] = ()  # that a running scheduler and its workers must be able to import


async def _nothing(scheduler: Any) -> None:
    """Default OnClose: does nothing."""


@contextlib.contextmanager
def connect(
    where: Job | Cluster | None = None,
    *,
    debug: bool = False,
    meanwhile: Callable[[], object] = lambda: None,
    first: Callable[[], object] = lambda: None,
    loaded: LoadedModules = LoadedModules(),
    on_close: OnClose = _nothing,
) -> Iterator[Client]:
    """Connects to the cluster that the job asks for: a local one, or a running scheduler.

    Leaving the context closes the client and, if it was started here, the cluster: no process is left, even after an
    error inside.  Dask's loggers are silent unless `debug`.  Raises ClusterError for what the cluster cannot provide,
    before any data is read.  `first` is called before the cluster starts, and in parallel with its start where `first`
    takes longer than a second: if it fails, nothing is left running.  `meanwhile` is called while the cluster starts.
    The context may be entered in one thread and left in another.  `on_close` is called before a local cluster closes.
    """
    section = where.cluster if isinstance(where, Job) else where or Cluster()
    if not debug:
        logs.silence()
    ahead = HeadStart(first)
    launcher: Launcher
    if section.scheduler is not None:
        launcher = ExistingLauncher(section, ahead.held, loaded.tasks)
    else:
        launcher = LocalLauncher(section, ahead.held, on_close, debug, loaded.preloads, loaded.warm_up)
    launched = launcher.start(ahead.before(meanwhile))
    try:
        yield launched.client
    finally:
        launcher.close(launched)
