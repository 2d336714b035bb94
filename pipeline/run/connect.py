"""Implements `connect`: `with connect(job) as client` gives a cluster that is ready for runs."""

import contextlib
from collections.abc import Callable

from distributed import Client

from pipeline.cluster.connect import LoadedModules
from pipeline.cluster.connect import connect as connect_cluster
from pipeline.config.job import Cluster, Job
from pipeline.dashboard.install import shutdown
from pipeline.run.modules import PRELOADS, TASKS, WARM_UP


def connect(
    where: Job | Cluster | None = None,
    *,
    debug: bool = False,
    meanwhile: Callable[[], object] = lambda: None,
    first: Callable[[], object] = lambda: None,
) -> contextlib.AbstractContextManager[Client]:
    """Connects to the cluster that the job asks for: a local one, or a running scheduler.

    Leaving the context closes the client and, if it was started here, the cluster: no process is left, even after an
    error inside.  Dask's loggers are silent unless `debug`.  Raises ClusterError for what the cluster cannot provide,
    before any data is read.  `first` is called before the cluster starts, and in parallel with its start where `first`
    takes longer than a second: if it fails, nothing is left running.  `meanwhile` is called while the cluster starts.
    The context may be entered in one thread and left in another.
    """
    loaded = LoadedModules(PRELOADS, WARM_UP, TASKS)
    return connect_cluster(where, debug=debug, meanwhile=meanwhile, first=first, loaded=loaded, on_close=shutdown)
