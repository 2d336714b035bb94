"""Finds what the cluster consists of: its device, its workers, and notes about them."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distributed import Client

from pipeline.cluster import affinity, same_code
from pipeline.cluster.launchers import existing
from pipeline.cluster.launchers.launched import Launched, launched, more_memory
from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.config.job import Cluster
from pipeline.config.quantities import parse_duration
from pipeline.errors import ClusterError, TrainingError
from pipeline.planning.memory import WORKER_NBYTES
from pipeline.planning.storage_plan import Device, Resources, WorkerResources
from pipeline.runtime import capability
from pipeline.runtime.membership import Facts, WorkerMembership, process
from pipeline.runtime.patience import Patience

TICK_SECONDS = 0.2  # between two polls of the cluster, while workers are waited for


@dataclass(frozen=True)
class WorkerInfo:
    """One worker process."""

    address: str
    name: str
    threads: int
    memory_limit: int  # bytes; 0: none
    host: str
    capability: float  # relative speed, in threads' worth: only ratios between workers mean something
    process: str = ""  # differs for each process, also if the address stays


@dataclass(frozen=True)
class Placement:
    """The device and the workers of a run."""

    device: Device
    workers: tuple[WorkerInfo, ...]  # in the order of their names, then addresses
    oversubscribed: bool  # a local cluster with more threads than cores
    dashboard: str | None  # link
    local: bool  # a local cluster: every connection stays on loopback
    notes: tuple[str, ...] = ()  # for the user

    @property
    def resources(self) -> Resources:
        """What a plan has to know of the workers."""
        workers = tuple(WorkerResources(worker.threads, worker.memory_limit) for worker in self.workers)
        return Resources(self.device, workers, more_memory(local=self.local))


def placement(
    client: Client,
    section: Cluster,
    membership: WorkerMembership | None = None,
    busy: Callable[[], object] = lambda: None,
    modules: Sequence[str] = (),
) -> Placement:
    """Returns the workers of the client's cluster, as many as the job asks for, with their measured capabilities.

    Errors and arguments are those of `find_workers` and `measured`.
    """
    with contextlib.ExitStack() as stack:
        membership = membership or stack.enter_context(WorkerMembership(client))
        return measured(find_workers(client, section, membership, modules), membership, busy)


def find_workers(
    client: Client, section: Cluster, membership: WorkerMembership, modules: Sequence[str] = ()
) -> Placement:
    """Returns the workers of the client's cluster, as many as the job asks for; no task runs on them.

    Waits for a worker that was lost before, or is being killed.  ClusterError if the cluster never had that many, or if
    a GPU was asked for and a worker cannot use one; TrainingError if a worker does not come back.  `modules`: what the
    first worker has to be able to import if it comes late.
    """
    start = launched(client)
    present = all_there(section, membership, modules)
    workers = sorted((_worker(*item) for item in present.items()), key=_order)
    if section.workers != "auto":
        workers = workers[: section.workers]
    membership.track({worker.address: worker.process for worker in workers})
    threads, cores = sum(worker.threads for worker in workers), affinity.cores()
    notes = []
    if oversubscribed := start.local and threads > cores:
        notes.append(f"oversubscribed: {len(workers)} workers x {workers[0].threads} threads on {cores} cores")
    bare = [worker.address for worker in workers if not present[worker.address].get("nanny")]
    if bare:
        notes.append(f"{len(bare)} workers run without a nanny, e.g. {bare[0]}: one that dies is not restarted")
    notes.extend(exposure(workers))
    link = _dashboard(start, membership.services) if section.dashboard else None
    return Placement(_device(start, section, workers), tuple(workers), oversubscribed, link, start.local, tuple(notes))


def measured(found: Placement, membership: WorkerMembership, busy: Callable[[], object] = lambda: None) -> Placement:
    """Returns the same workers with their capabilities, which a task on each measures.

    WorkerLostError if one leaves meanwhile.  `busy` is called if the workers have other tasks to run first.
    """
    pairs = [(worker.address, worker.threads) for worker in found.workers]
    rates, available = capability.measure(membership, pairs, busy)
    workers = tuple(
        dataclasses.replace(worker, capability=rate) for worker, rate in zip(found.workers, rates, strict=True)
    )
    notes = () if found.oversubscribed else capability.busy_notes([worker.name for worker in workers], available)
    return dataclasses.replace(found, workers=workers, notes=(*notes, *found.notes))


def all_there(section: Cluster, membership: WorkerMembership, modules: Sequence[str] = ()) -> dict[str, Facts]:
    """Returns the workers once all that can be expected are present; with "auto", without those that stay away."""
    give_up = time.monotonic() + section.wait_seconds
    if not membership.refresh() and membership.expected_count() == 0:
        await_first(section, membership, modules)
        give_up = time.monotonic() + section.wait_seconds
        while section.workers != "auto" and len(membership.refresh()) < section.workers and time.monotonic() < give_up:
            time.sleep(TICK_SECONDS)
    while True:
        present, known = membership.refresh(), membership.expected_count()
        expected = known if section.workers == "auto" else section.workers
        if expected > known or known == 0:
            raise ClusterError(f"cluster.workers = {section.workers}, but the cluster has {len(present)}")
        if len(present) >= expected:
            return present
        if time.monotonic() >= give_up:
            break
        time.sleep(TICK_SECONDS)
    if section.workers == "auto" and present:
        return present
    raise TrainingError(_why_fewer(section, membership))


def await_workers(client: Client, section: Cluster, note: Callable[[str], object], modules: Sequence[str] = ()) -> None:
    """Returns when the client's cluster has a worker.  ClusterError if it has none for `cluster.patience`.

    `modules`: what a worker that comes late has to be able to import.
    """
    if scheduler_info(client)["workers"]:
        return
    with WorkerMembership(
        client, section.hang_seconds, patience_seconds=parse_duration(section.patience)
    ) as membership:
        membership.note = note
        await_first(section, membership, modules)


def await_first(
    section: Cluster,
    membership: WorkerMembership,
    modules: Sequence[str] = (),
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Returns when there is a worker that has this package and can import these modules of it.

    A task is pending meanwhile, so that a cluster that adapts to its load starts a worker.  ClusterError if there is
    none for `cluster.patience`.  `clock`: seconds; `sleep`: waits for so many.
    """
    patience = Patience(parse_duration(section.patience), lambda message: None)  # `membership` emits its own notes
    task = None
    if parse_duration(section.patience):
        membership.note(f"no worker is available yet: waiting for one, up to {section.patience} (cluster.patience)")
    while not membership.refresh():
        membership.raise_if_lost(())
        if (why := patience.seen(clock(), 0)) is not None:
            raise ClusterError(f"cluster.workers = {section.workers}, but the cluster has 0: {why}")
        task = task or membership.client.submit(len, "", pure=False)
        sleep(TICK_SECONDS)
    if section.scheduler is not None:
        same_code.check_same(membership.client, section.scheduler, modules)


def _why_fewer(section: Cluster, membership: WorkerMembership) -> str:
    if (short := membership.out_of_memory(WORKER_NBYTES)) is not None:
        return short
    lost = membership.lost_worker()
    which = "a worker was lost at start" if lost is None else f"worker {lost[0]} lost at start: {lost[1]}"
    return f"{which}; it did not come back within {section.wait_seconds:g} s (cluster.wait_seconds)"


def exposure(workers: Sequence[WorkerInfo]) -> tuple[str, ...]:
    """Returns a note about workers on several hosts: XGBoost's connections between hosts are not encrypted."""
    hosts = len({worker.host for worker in workers})
    if hosts < 2:
        return ()
    note = (
        f"workers on {hosts} hosts: XGBoost's connections between them are neither encrypted nor authenticated, "
        "whatever cluster.security says: keep them on a network you trust (SECURITY.md)"
    )
    return (note,)


def usable(present: Mapping[str, Mapping[str, Any]], before: Placement, most: int) -> tuple[WorkerInfo, ...]:
    """Returns at most `most` of the present workers: those that took part, those of the same names, then any others.

    A worker that is back has another address; it keeps its former capability.
    """
    known = {worker.name: worker for worker in before.workers}
    addresses = {worker.address for worker in before.workers}
    found = []
    for address, facts in present.items():
        worker = _worker(address, facts)
        if worker.name in known:
            worker = dataclasses.replace(worker, capability=known[worker.name].capability)
        found.append(worker)
    found.sort(key=lambda worker: (worker.address not in addresses, worker.name not in known, _order(worker)))
    return tuple(sorted(found[:most], key=_order))


def _worker(address: str, facts: Mapping[str, Any]) -> WorkerInfo:
    return WorkerInfo(
        address=address,
        name=str(facts["name"]),
        threads=facts["nthreads"],
        memory_limit=facts["memory_limit"] or 0,
        host=facts["host"],
        capability=float(facts["nthreads"]),
        process=process(facts),
    )


def _order(worker: WorkerInfo) -> tuple[bool, int, str]:
    """Local workers are named by numbers, others often by their address."""
    number = worker.name.isdigit()
    return (not number, int(worker.name) if number else 0, worker.address)


def _dashboard(start: Launched, services: Mapping[str, Any]) -> str | None:
    """Returns the link to Dask's dashboard."""
    if "dashboard" not in services:
        return None
    if start.local:
        return f"http://127.0.0.1:{services['dashboard']}/status"
    link: str = start.client.dashboard_link
    return link


def _device(start: Launched, section: Cluster, workers: list[WorkerInfo]) -> Device:
    """Returns the device that the workers were started for; on clusters that do not tell, the workers are asked."""
    if start.device is not None:
        if section.device == "cuda" and start.device != "cuda":
            raise ClusterError(
                "cluster.device = 'cuda', but the client's LocalCluster was not started for GPUs: use pipeline.connect or "
                "dask_cuda.LocalCUDACluster, or set cluster.device = 'cpu'"
            )
        return start.device
    if section.device == "cpu":
        return "cpu"
    reasons = existing.gpu_reasons(start.client, [worker.address for worker in workers])
    unusable = {address: reason for address, reason in reasons.items() if reason}
    if not unusable:
        return "cuda"
    if section.device == "cuda":
        address, reason = next(iter(unusable.items()))
        raise ClusterError(
            f"cluster.device = 'cuda': {len(unusable)} of {len(workers)} workers cannot, e.g. {address}: {reason}"
        )
    return "cpu"
