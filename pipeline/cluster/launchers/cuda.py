"""Starts a cluster of this machine's GPUs: one worker for each, by dask-cuda."""

import sys
from typing import Any

from distributed import LocalCluster

from pipeline.cluster.devices import EXTRA, probe_gpu
from pipeline.config.job import Cluster
from pipeline.errors import ClusterError


def workers(section: Cluster) -> int:
    """Returns one worker per visible GPU, or as many as asked for.  ClusterError if that is more than there are."""
    gpus = probe_gpu()
    if section.workers == "auto":
        return gpus.count
    if section.workers > gpus.count:
        raise ClusterError(
            f"cluster.workers = {section.workers}, but {gpus.count} GPUs are visible; one worker needs one"
        )
    return section.workers


def start(section: Cluster, count: int, threads: int, options: dict[str, Any]) -> LocalCluster:
    """Starts `count` workers, each with its own GPU, the cores next to it, and the memory settings of the job.

    `options`: those of any local cluster (addresses, limits, nanny).
    """
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        raise ClusterError(f"cluster.device = 'cuda': dask_cuda cannot be imported ({error}): {EXTRA}") from None
    memory = {"rmm_pool_size": section.gpu_pool, "device_memory_limit": section.gpu_spill}
    given = {name: value for name, value in memory.items() if value is not None}
    try:
        cluster: LocalCluster = LocalCUDACluster(n_workers=count, threads_per_worker=threads, **given, **options)
    except ValueError as error:
        raise ClusterError(f"cluster.gpu_pool = {section.gpu_pool}, gpu_spill = {section.gpu_spill}: {error}") from None
    return cluster


def started(cluster: LocalCluster) -> bool:
    """Whether the cluster is one of dask-cuda's, without importing it."""
    dask_cuda = sys.modules.get("dask_cuda")
    return dask_cuda is not None and isinstance(cluster, dask_cuda.LocalCUDACluster)
