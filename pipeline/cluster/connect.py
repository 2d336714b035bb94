"""Connects to a cluster, the only way in the package: `with connect(job) as client`."""

import contextlib
import functools
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Client, LocalCluster

from pipeline.cluster import interrupts, logs, starting, throwaway_tls
from pipeline.cluster.child_processes import kill_own, last_words, stderr_of_workers
from pipeline.cluster.head_start import HeadStart
from pipeline.cluster.launchers import existing, local
from pipeline.cluster.memory import process_tree
from pipeline.config.job import Cluster, Job
from pipeline.errors import ClusterStartError

CLOSE_SECONDS = 20.0  # for a cluster to close; Dask waits half a minute for its parts, or for ever
GRACE_SECONDS = 2.0  # for a busy worker to end by itself when its cluster closes
# Read while the cluster runs.  After this time since a worker was lost, Dask closes its nanny if no worker of that
# name is present: also for a worker that came back meanwhile, and was lost again a moment ago.
LASTING = {"distributed.deploy.lost-worker-timeout": "365 days"}
OnClose = Callable[[Any], Awaitable[object]]  # called with the scheduler of a local cluster before that closes


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
    meanwhile = ahead.before(meanwhile)
    if section.scheduler is not None:
        with contextlib.closing(
            interrupts.finish(ahead.held(lambda: existing.attach(section, loaded.tasks)), Client.close, meanwhile)
        ) as client:
            yield client
        return
    start = functools.partial(_start, section, debug, loaded, on_close)
    end = functools.partial(_end, on_close=on_close)
    with dask.config.set(LASTING):
        client = starting.start_within_limit(ahead.held(start), end, meanwhile)
        try:
            yield client
        finally:
            end(client)


def _start(section: Cluster, debug: bool, loaded: LoadedModules, on_close: OnClose) -> Client:
    """Starts a local cluster and returns its client; cleans up if that fails."""
    starting.check_resources(section)
    with stderr_of_workers() as said:
        try:
            cluster = local.start(section, debug, loaded.preloads, loaded.warm_up)
        except (OSError, RuntimeError, MemoryError) as error:
            raise ClusterStartError(starting.why(error, last_words(said), local.PlainNanny.exit_codes)) from None
    try:
        if section.security == "auto":
            throwaway_tls.publish(cluster.scheduler_address, cluster.security)
        return Client(cluster)
    except BaseException:
        _close_cluster(cluster, on_close)
        raise


def _end(client: Client, on_close: OnClose) -> None:
    """Closes client and cluster; kills and abandons what does not close in time."""
    workers = _processes(client.cluster)
    late = interrupts.Limit(CLOSE_SECONDS, lambda: TimeoutError("closing"), lambda: kill_own(workers))
    with contextlib.suppress(TimeoutError):
        interrupts.finish(lambda: _close(client, on_close), limit=late)


def _close(client: Client, on_close: OnClose) -> None:
    """Closes the client and its cluster, and kills workers that do not end."""
    cluster: Any = client.cluster
    client.close(timeout=GRACE_SECONDS)
    _close_cluster(cluster, on_close)


def _close_cluster(cluster: LocalCluster, on_close: OnClose) -> None:
    """Closes the cluster; kills a worker too busy to answer after GRACE_SECONDS."""
    throwaway_tls.withdraw(cluster.scheduler_address)
    started = _processes(cluster)
    killer = threading.Timer(GRACE_SECONDS, kill_own, [started])
    killer.daemon = True
    killer.start()
    try:
        cluster.sync(on_close, cluster.scheduler)
        cluster.close()
    finally:
        killer.cancel()
        kill_own(started)


def _processes(cluster: Any) -> list[int]:
    """Returns the processes of the cluster's workers and their descendants."""
    workers = [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
    return [pid for worker in workers for pid in process_tree(worker)]
