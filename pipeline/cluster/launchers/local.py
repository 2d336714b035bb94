"""Starts a cluster on this machine: how many workers, with how many threads and how much memory, on which cores."""

import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import dask
from distributed import Client, LocalCluster

from pipeline.cluster import affinity, interrupts, logs, ports, starting, throwaway_tls, tls, web_guard
from pipeline.cluster.child_processes import kill_own, last_words, own_environment, stderr_of_workers
from pipeline.cluster.launchers import cuda, fork_server
from pipeline.cluster.launchers.launched import Launched, launched
from pipeline.cluster.launchers.layout import LocalLayout, layout
from pipeline.cluster.launchers.plain_nanny import PlainNanny
from pipeline.cluster.memory import process_tree
from pipeline.config.job import Cluster
from pipeline.errors import ClusterStartError

HOST = "127.0.0.1"
CLOSE_SECONDS = 20.0  # for a cluster to close; Dask waits half a minute for its parts, or for ever
GRACE_SECONDS = 2.0  # for a busy worker to end by itself when its cluster closes
# Read while the cluster runs.  After this time since a worker was lost, Dask closes its nanny if no worker of that
# name is present: also for a worker that came back meanwhile, and was lost again a moment ago.
LASTING = {"distributed.deploy.lost-worker-timeout": "365 days"}
OnClose = Callable[[Any], Awaitable[object]]  # called with the scheduler of a local cluster before that closes
GUARD = "pipeline.cluster.web_guard"


def _settings(plan: LocalLayout, debug: bool, hosts: Sequence[str] = (), warm_up: Sequence[str] = ()) -> dict[str, Any]:
    """Returns Dask's configuration for a local cluster, in the client's process and in the workers.

    Memory: nothing is spilled (kept data belong in memory; other data are decoded again) and no worker is paused
    (without spilling a paused worker waits for ever); the nanny restarts a worker above 95 % of its limit, which the
    user sees as an error.
    Lost workers: a restarted worker has another address, so tasks pinned to the old one would wait for ever.
    Quiet: the profiler, the event loops' health checks and the monitors took 7.6 % of a core as Dask sets them, 2 %
    like this (measured, idle cluster of one worker).
    """
    return {
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.95,
        "distributed.scheduler.no-workers-timeout": "30s",  # safely more than a restart takes
        "distributed.scheduler.worker-ttl": None,  # uses the system's clock, which may be set; `WorkerMembership` uses its own
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "500ms",
        "distributed.admin.tick.limit": "1h",
        "distributed.admin.system-monitor.interval": "2s",
        **preloads("worker", "pipeline.cluster.affinity", GUARD),
        web_guard.HOSTS: web_guard.allowed_hosts(hosts),
        affinity.CORE_SETS: plan.core_sets,
        affinity.WARM_UP: tuple(warm_up),
        affinity.DEBUG: debug,
    }


def preloads(of: Literal["scheduler", "worker"], *modules: str) -> dict[str, Any]:
    """Returns the configuration of preloads for schedulers or workers: the user's modules, then these."""
    names, arguments = f"distributed.{of}.preload", f"distributed.{of}.preload-argv"
    given, argv = dask.config.get(names), dask.config.get(arguments)
    found: dict[str, Any] = {names: [*([given] if isinstance(given, str) else given), *modules]}
    if argv and not isinstance(argv[0], str):  # one list for each module
        found[arguments] = [*argv, *([] for _ in modules)]
    return found


@dataclass(frozen=True)
class LocalLauncher:
    """Starts a cluster in processes of this machine; see `start` for what the arguments mean."""

    section: Cluster
    held: Callable[[Callable[[], Client]], Callable[[], Client]]  # delays the start: HeadStart.held
    on_close: OnClose
    debug: bool = False
    scheduler_preloads: tuple[str, ...] = ()
    warm_up: tuple[str, ...] = ()
    _configured: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self, meanwhile: Callable[[], object]) -> Launched:
        """Starts the cluster and its client; nothing is left of either if that fails."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(dask.config.set(LASTING))
            client = starting.start_within_limit(self.held(self._start), self._end, meanwhile)
            self._configured.push(stack.pop_all())
        return launched(client)

    def close(self, launched: Launched) -> None:
        """Closes client and cluster."""
        with self._configured:
            self._end(launched.client)

    def _start(self) -> Client:
        starting.check_resources(self.section)
        with stderr_of_workers(fork_server.early_stderr()) as said:
            try:
                cluster = start(self.section, self.debug, self.scheduler_preloads, self.warm_up)
            except (OSError, RuntimeError, MemoryError) as error:
                raise ClusterStartError(starting.why(error, last_words(said), PlainNanny.exit_codes)) from None
        try:
            if self.section.security == "auto":
                throwaway_tls.publish(cluster.scheduler_address, cluster.security)
            return Client(cluster)
        except BaseException:
            _close_cluster(cluster, self.on_close)
            raise

    def _end(self, client: Client) -> None:
        """Closes client and cluster; kills and abandons what does not close in time."""
        workers = _processes(client.cluster)
        late = interrupts.Limit(CLOSE_SECONDS, lambda: TimeoutError("closing"), lambda: kill_own(workers))
        with contextlib.suppress(TimeoutError):
            interrupts.finish(lambda: _close(client, self.on_close), limit=late)


def start(
    section: Cluster, debug: bool = False, scheduler_preloads: Sequence[str] = (), warm_up: Sequence[str] = ()
) -> LocalCluster:
    """Starts a cluster on loopback, for the device the job asks for, its workers pinned and answering.

    With `cluster.security` all its connections are encrypted, and each side shows a certificate; the dashboard, whose
    browser has none, stays on loopback without TLS.  ClusterError if a file cannot be used.
    `scheduler_preloads`: modules that the scheduler loads if it has a dashboard; `warm_up`: modules that each worker
    imports as it starts.
    """
    plan = layout(section)
    PlainNanny.exit_codes.clear()
    options: dict[str, Any] = {
        "memory_limit": plan.memory_limit_nbytes,
        "host": HOST,
        "scheduler_kwargs": {"dashboard": False},  # loaded at the first visit
        "worker_class": PlainNanny,
        "processes": True,
        "silence_logs": False if debug else logs.NEVER,
    }
    if section.security:
        made = throwaway_tls.make() if section.security == "auto" else tls.for_all(section.security)
        options |= {"security": made, "protocol": "tls://"}
    if section.local_directory:
        options["local_directory"] = section.local_directory
    pages = scheduler_preloads if section.dashboard else ()
    configuration = _settings(plan, debug, section.dashboard_hosts, warm_up) | preloads("scheduler", GUARD, *pages)
    any_port = contextlib.nullcontext(f"{HOST}:0")
    port = ports.free_address() if section.dashboard else any_port
    with own_environment(), dask.config.set(configuration), port as options["dashboard_address"]:
        if plan.device == "cuda":
            return cuda.start(section, plan.workers, plan.threads, options)
        return _ForkedCluster(plan, warm_up, options)


class _ForkedCluster(LocalCluster):
    """Its workers are forks of a fork server that it owns, where there can be one."""

    def __init__(self, plan: LocalLayout, warm_up: Sequence[str], options: dict[str, Any]) -> None:
        environment = dask.config.get("distributed.nanny.pre-spawn-environ")
        self._server = fork_server.start(warm_up, fork_server.variables(environment, plan.threads))
        forked = self._server is not None
        try:
            super().__init__(n_workers=plan.workers, threads_per_worker=plan.threads, forked=forked, **options)
        except BaseException:
            self.end_server()
            raise

    def end_server(self) -> None:
        """Ends the fork server; its workers have ended."""
        server, self._server = self._server, None  # once: later another cluster may use it
        if server is not None:
            server.stop()


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
        if isinstance(cluster, _ForkedCluster):
            cluster.end_server()


def _processes(cluster: Any) -> list[int]:
    """Returns the processes of the cluster's workers and their descendants."""
    workers = [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
    return [pid for worker in workers for pid in process_tree(worker)]
