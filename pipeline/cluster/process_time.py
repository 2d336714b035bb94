"""Measures the CPU seconds of this process and of everything that it started."""

import contextlib
import os

from pipeline.cluster.memory import process_tree


def tree_cpu_seconds() -> float:
    """Returns user and system seconds of this process, its living descendants, and its children that have ended."""
    import psutil

    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    for pid in process_tree()[1:]:
        with contextlib.suppress(psutil.Error):
            spent = psutil.Process(pid).cpu_times()
            total += spent.user + spent.system + spent.children_user + spent.children_system
    return total
