"""What the cluster consists of: its device, its workers, and what to tell about them."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distributed import Client

from pipeline.cluster import affinity, capability, remote
from pipeline.cluster.identity import scheduler_info
from pipeline.cluster.members import Members
from pipeline.errors import ClusterError
from pipeline.job import Cluster


@dataclass(frozen=True)
class WorkerInfo:
    """One worker process."""

    address: str
    name: str
    threads: int
    memory_limit: int  # bytes; 0: none
    host: str
    capability: float  # relative speed, in threads' worth: only ratios between workers mean something


@dataclass(frozen=True)
class Placement:
    """Where a run takes place."""

    device: Literal["cpu", "cuda"]
    workers: tuple[WorkerInfo, ...]  # in the order of their names, then addresses
    oversubscribed: bool  # a local cluster with more threads than cores
    dashboard: str | None  # link
    local: bool  # our own cluster: every connection stays on loopback
    notes: tuple[str, ...] = ()  # what the user should know


def placement(client: Client, section: Cluster, members: Members | None = None) -> Placement:
    """The workers of the client's cluster, as many as the job asks for, with their measured capabilities.

    ClusterError where there are fewer, or where a GPU was asked for and a worker cannot use one; WorkerLostError where one
    leaves meanwhile.
    """
    with contextlib.ExitStack() as stack:
        return _placement(client, section, members or stack.enter_context(Members(client)))


def _placement(client: Client, section: Cluster, members: Members) -> Placement:
    info = scheduler_info(client)
    local = client.cluster is not None
    workers = sorted((_worker(*item) for item in info["workers"].items()), key=_order)
    asked = len(workers) if section.workers == "auto" else section.workers
    if len(workers) < max(1, asked):
        raise ClusterError(f"cluster.workers = {section.workers}, but the cluster has {len(workers)}")
    workers = workers[:asked]
    rates = capability.measure(members, [(worker.address, worker.threads) for worker in workers])
    workers = [dataclasses.replace(worker, capability=rate) for worker, rate in zip(workers, rates, strict=True)]
    threads, cores = sum(worker.threads for worker in workers), affinity.cores()
    notes = []
    if oversubscribed := local and threads > cores:
        notes.append(f"oversubscribed: {len(workers)} workers x {workers[0].threads} threads on {cores} cores")
    bare = [worker.address for worker in workers if not info["workers"][worker.address].get("nanny")]
    if bare:
        notes.append(f"{len(bare)} workers run without a nanny, e.g. {bare[0]}: one that dies is not restarted")
    notes.extend(exposure(workers))
    link = _dashboard(client, info) if section.dashboard else None
    return Placement(_device(client, section, workers), tuple(workers), oversubscribed, link, local, tuple(notes))


def exposure(workers: Sequence[WorkerInfo]) -> tuple[str, ...]:
    """What to tell about workers on several hosts: between those, XGBoost talks in the clear."""
    hosts = len({worker.host for worker in workers})
    if hosts < 2:
        return ()
    note = (
        f"workers on {hosts} hosts: XGBoost's connections between them are neither encrypted nor authenticated, "
        "whatever cluster.security says: keep them on a network you trust (SECURITY.md)"
    )
    return (note,)


def usable(present: Mapping[str, Mapping[str, Any]], before: Placement, most: int) -> tuple[WorkerInfo, ...]:
    """At most so many of the workers that are there: those that took part, those of their names, then any others.

    A worker that is back has another address; its capability is taken to be what it was.
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
    )


def _order(worker: WorkerInfo) -> tuple[bool, int, str]:
    """Our own workers are named by numbers, others often by their address."""
    number = worker.name.isdigit()
    return (not number, int(worker.name) if number else 0, worker.address)


def _dashboard(client: Client, info: dict[str, Any]) -> str | None:
    """The link to Dask's dashboard."""
    if "dashboard" not in info["services"]:
        return None
    if client.cluster is not None:
        return f"http://127.0.0.1:{info['services']['dashboard']}/status"
    link: str = client.dashboard_link
    return link


def _device(client: Client, section: Cluster, workers: list[WorkerInfo]) -> Literal["cpu", "cuda"]:
    """A local cluster was started for its device; workers of others are asked."""
    if client.cluster is not None:
        return "cuda" if type(client.cluster).__name__ == "LocalCUDACluster" else "cpu"
    if section.device == "cpu":
        return "cpu"
    reasons = remote.gpu_reasons(client, [worker.address for worker in workers])
    unusable = {address: reason for address, reason in reasons.items() if reason}
    if not unusable:
        return "cuda"
    if section.device == "cuda":
        address, reason = next(iter(unusable.items()))
        raise ClusterError(
            f"cluster.device = 'cuda': {len(unusable)} of {len(workers)} workers cannot, e.g. {address}: {reason}"
        )
    return "cpu"
