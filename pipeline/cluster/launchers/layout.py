"""Decides the workers of a local cluster: how many, with how many threads and how much memory, on which cores.

Imports no Dask until memory is asked about: the command line needs the number of threads before.
"""

from dataclasses import dataclass
from typing import Literal

from pipeline.cluster import affinity
from pipeline.cluster.devices import resolve_device
from pipeline.config.job import Cluster


@dataclass(frozen=True)
class LocalLayout:
    """The workers of a local cluster."""

    device: Literal["cpu", "cuda"]
    workers: int
    threads: int  # per worker
    memory_limit_nbytes: int  # per worker
    core_sets: tuple[tuple[int, ...] | None, ...]  # None: not pinned
    cores: int  # of the machine that this process may use

    @property
    def oversubscribed(self) -> bool:
        """Whether there are more threads than cores."""
        return self.workers * self.threads > self.cores


def layout(
    section: Cluster,
    nodes: tuple[tuple[int, ...], ...] | None = None,
    cores: int | None = None,
    memory_nbytes: float | None = None,
) -> LocalLayout:
    """Resolves "auto": one worker with all cores per NUMA node, or one per GPU; memory shared evenly.

    `nodes`, `cores` (threads that can run at once) and `memory_nbytes`: default: those of this machine.
    ClusterError if the GPU was asked for and cannot be used, or if there are fewer GPUs than workers.
    """
    import dask.utils
    from distributed.system import MEMORY_LIMIT

    device = resolve_device(section.device)
    nodes = affinity.numa_nodes() if nodes is None else nodes
    cores = affinity.cores() if cores is None else cores
    if device == "cuda":
        from pipeline.cluster.launchers import cuda

        workers = cuda.workers(section)
    else:
        workers = workers_on_cpu(section, nodes, cores)
    threads = threads_each(section, workers, cores)
    memory = MEMORY_LIMIT if memory_nbytes is None else memory_nbytes
    limit = int(memory // workers if section.memory == "auto" else dask.utils.parse_bytes(section.memory))
    # dask-cuda pins its workers to the cores next to their GPUs
    sets = (None,) * workers if device == "cuda" else affinity.core_sets(workers, threads, nodes, cores)
    return LocalLayout(device, workers, threads, limit, sets, cores)


def workers_on_cpu(section: Cluster, nodes: tuple[tuple[int, ...], ...], cores: int) -> int:
    """Returns as many workers as asked for, or one per NUMA node."""
    return min(len(nodes), cores) if section.workers == "auto" else section.workers


def threads_each(section: Cluster, workers: int, cores: int) -> int:
    """Returns the threads of a worker as asked for, or an even share of the cores."""
    return max(1, cores // workers) if section.threads == "auto" else section.threads
