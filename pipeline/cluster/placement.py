"""What the cluster consists of: its device, its workers, and what to tell about them."""

from dataclasses import dataclass
from typing import Literal

from distributed import Client

from pipeline.cluster import affinity
from pipeline.job import Cluster


@dataclass(frozen=True)
class WorkerInfo:
    """One worker process."""

    address: str
    name: str
    threads: int
    memory_limit: int  # bytes; 0: none
    host: str
    capability: float  # relative speed: threads x probe; only ratios between workers mean something


@dataclass(frozen=True)
class Placement:
    """Where a run takes place."""

    device: Literal["cpu", "cuda"]
    workers: tuple[WorkerInfo, ...]  # in the order of their names, then addresses
    oversubscribed: bool  # a local cluster with more threads than cores
    dashboard: str | None  # link
    local: bool  # our own cluster: every connection stays on loopback
    notes: tuple[str, ...] = ()  # what the user should know


def placement(client: Client, section: Cluster) -> Placement:
    """The workers of the client's cluster, as many as the job asks for."""
    info = client.scheduler_info(n_workers=-1)
    local = client.cluster is not None
    workers = sorted(
        (
            WorkerInfo(
                address=address,
                name=str(worker["name"]),
                threads=worker["nthreads"],
                memory_limit=worker["memory_limit"] or 0,
                host=worker["host"],
                capability=float(worker["nthreads"]),
            )
            for address, worker in info["workers"].items()
        ),
        key=lambda worker: (not worker.name.isdigit(), int(worker.name) if worker.name.isdigit() else 0, worker.address),
    )
    threads, cores = sum(worker.threads for worker in workers), affinity.cores()
    oversubscribed = local and threads > cores
    notes = (f"oversubscribed: {threads} threads on {cores} cores",) if oversubscribed else ()
    port = info["services"].get("dashboard")
    link = f"http://127.0.0.1:{port}/status" if local and section.dashboard and port else None
    return Placement("cpu", tuple(workers), oversubscribed, link, local, notes)
