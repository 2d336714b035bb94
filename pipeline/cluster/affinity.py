"""Finds the cores that this process may use and their NUMA nodes, and assigns each worker its own set.

Everything is read from /sys, /proc and the cgroup files; on systems without them every worker may use every core.
The module is also the preload of local workers: `dask_setup` runs in each worker process as it starts.
"""

import importlib
import itertools
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CORE_SETS = "pipeline.core-sets"  # configuration key: the core set of each worker, by its index
WARM_UP = "pipeline.warm-up"  # configuration key: the names of modules that a worker imports as it starts
DEBUG = "pipeline.debug"  # configuration key: keep Dask's loggers enabled

_NODES = Path("/sys/devices/system/node")
_CGROUP = Path("/sys/fs/cgroup")


def allowed_cores() -> tuple[int, ...]:
    """Returns the cores this process may be scheduled on, ascending."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cpu_quota(root: Path = _CGROUP) -> float | None:
    """Returns the cores' worth of time that the cgroup allows, None if there is no limit."""
    if (v2 := _read(root / "cpu.max")) is not None:
        quota, period = v2.split()
        return None if quota == "max" else float(quota) / float(period)
    quota_text, period_text = _read(root / "cpu/cpu.cfs_quota_us"), _read(root / "cpu/cpu.cfs_period_us")
    if quota_text is None or period_text is None or float(quota_text) <= 0:
        return None
    return float(quota_text) / float(period_text)


def cores() -> int:
    """Returns how many threads can run at once: allowed cores, or the cgroup's quota if that is less; at least 1."""
    return at_once(len(allowed_cores()), cpu_quota())


def at_once(count: int, quota: float | None) -> int:
    """Returns how many threads can run at once on so many cores with this quota (in cores); at least 1.

    >>> at_once(64, None), at_once(64, 2.5), at_once(64, 0.4)
    (64, 2, 1)
    """
    return count if quota is None else max(1, min(count, math.floor(quota)))


def numa_nodes(root: Path = _NODES, allowed: Sequence[int] | None = None) -> tuple[tuple[int, ...], ...]:
    """Groups the allowed cores by NUMA node; leaves out nodes without one; returns a single node if nothing is known.

    `allowed`: default: `allowed_cores`.
    """
    usable = set(allowed_cores() if allowed is None else allowed)
    lists = sorted(root.glob("node[0-9]*/cpulist"), key=lambda path: int(path.parent.name[4:]))
    nodes = [tuple(sorted(usable.intersection(parse_cores(path.read_text())))) for path in lists]
    found = tuple(node for node in nodes if node)
    return found if sum(map(len, found)) == len(usable) else (tuple(sorted(usable)),)


def parse_cores(text: str) -> tuple[int, ...]:
    """Parses the kernel's list format: "0-2,8" -> (0, 1, 2, 8)."""
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            found.extend(range(int(first), int(last or first) + 1))
    return tuple(found)


def core_sets(
    workers: int, threads: int, nodes: tuple[tuple[int, ...], ...], limit: int | None = None
) -> tuple[tuple[int, ...] | None, ...]:
    """Returns each worker's cores, disjoint and of even sizes; None: the worker may use every core.

    Workers are distributed over the nodes so that none spans two, if that leaves each `threads` cores; otherwise
    neighbouring cores are distributed without regard to nodes.  No worker is pinned if there are more threads than
    cores, or if the cgroup allows less time (`limit`, in cores) than there are cores: every other such container would
    pin to the same cores.
    """
    everything = tuple(core for node in nodes for core in node)
    if workers * threads > len(everything) or (limit is not None and limit < len(everything)):
        return (None,) * workers
    per_node = [workers // len(nodes) + (index < workers % len(nodes)) for index in range(len(nodes))]
    if all(count * threads <= len(node) for count, node in zip(per_node, nodes, strict=True)):
        return tuple(share for count, node in zip(per_node, nodes, strict=True) for share in _split(node, count))
    return tuple(_split(everything, workers))


def _split(items: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    """Splits `items` into `count` runs whose lengths differ by one at most."""
    edges = [len(items) * index // count for index in range(count + 1)] if count else [0]
    return [items[first:last] for first, last in itertools.pairwise(edges)]


def pin(core_set: tuple[int, ...]) -> None:
    """Restricts every thread of this process, and all that it will start, to the cores."""
    for thread in os.listdir("/proc/self/task"):
        try:
            os.sched_setaffinity(int(thread), core_set)
        except ProcessLookupError:
            continue  # the thread ended meanwhile


def dask_setup(worker: Any) -> None:
    """Prepares a worker process: core set, silent loggers, a lean XGBoost.  Dask calls it in the main thread."""
    import dask

    from pipeline.cluster import lean, logs, worker_stderr

    worker_stderr.restore()
    if not dask.config.get(DEBUG, False):
        logs.silence()
    lean.install()
    sets = dask.config.get(CORE_SETS, ())
    index = int(worker.name) if str(worker.name).isdigit() else -1
    if 0 <= index < len(sets) and sets[index] is not None and hasattr(os, "sched_setaffinity"):
        pin(tuple(sets[index]))
    threading.Thread(target=_warm_up, args=[dask.config.get(WARM_UP, ())], name="warm up", daemon=True).start()


def _warm_up(modules: Sequence[str]) -> None:
    """Imports the modules of the first tasks while the client still reads metadata."""
    for module in modules:
        importlib.import_module(module)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
