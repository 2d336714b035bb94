"""The one way to a cluster: `with connect(job) as client`."""

import contextlib
from collections.abc import Iterator

from distributed import Client

from pipeline.cluster import dashboard, local, logs
from pipeline.job import Cluster, Job


@contextlib.contextmanager
def connect(where: Job | Cluster | None = None, *, debug: bool = False) -> Iterator[Client]:
    """A client of the cluster the job asks for; leaving the context closes both."""
    section = where.cluster if isinstance(where, Job) else where or Cluster()
    if not debug:
        logs.silence()
    cluster = local.start(section, local.layout(section), debug)
    try:
        with Client(cluster) as client:
            yield client
    finally:
        cluster.sync(dashboard.withdraw, cluster.scheduler)
        cluster.close()
