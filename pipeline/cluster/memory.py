"""Measures the peak memory of all processes of a run together: this one and everything it started.

PSS counts each shared page once in all, so that sums mean something.  Reading it takes 0.1 to 1 ms per GB of a process
(measured), walking the tree of processes 0.05 ms.  Workers of a running scheduler are no children of this process: then
the sum is this client's memory alone, and `counted` names it so.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable

INTERVAL_SECONDS = 0.2
MOST_SHARE = 0.002  # of the time that may go into sampling


def counted(own_workers: bool) -> str:
    """Names whose memory was counted, for people; `own_workers`: this process has started the workers."""
    return "all processes together" if own_workers else "this client alone"


def process_tree(root: int | None = None) -> list[int]:
    """Returns the process (default: this one) and all its descendants."""
    found, waiting = [], [os.getpid() if root is None else root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(_children(pid))
    return found


def _children(pid: int) -> list[int]:
    """Returns children started by any thread of the process; empty if it has ended.

    Only as far as they can be seen: if no more files may be opened, the sum of memory is too small for that moment.
    """
    children: list[int] = []
    with contextlib.suppress(OSError):  # the process has ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            with (
                contextlib.suppress(OSError),  # this thread has ended; children of other threads still count
                open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as listing,
            ):
                children.extend(map(int, listing.read().split()))
    return children


def pss_nbytes(pid: int) -> int | None:
    """Returns the proportional set size; None if unavailable (not Linux, or another user's process)."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            for line in rollup:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return 0  # a process that is ending has no memory left


def rss_nbytes(pid: int) -> int:
    """Returns the resident set size; 0 for a process that has ended."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


class PeakMemory:
    """Samples the total memory of some processes in its own thread, from `start` to `stop`; also a context manager.

    `pids` returns the processes, called for each sample; default: this one and everything it started.  `pss` returns
    the proportional set size of one in bytes, or None.
    """

    def __init__(
        self,
        pids: Callable[[], Iterable[int]] = process_tree,
        interval: float = INTERVAL_SECONDS,
        pss: Callable[[int], int | None] = pss_nbytes,
    ) -> None:
        self.peak_nbytes = 0
        self.measure = "pss" if pss(os.getpid()) is not None else "rss"  # rss counts shared pages repeatedly
        self._pids, self._interval, self._pss = pids, interval, pss
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def sample(self) -> int:
        """Returns the current sum in bytes, and updates the peak."""
        if self.measure == "pss":
            total = sum(self._pss(pid) or 0 for pid in self._pids())
        else:
            total = sum(rss_nbytes(pid) for pid in self._pids())
        self.peak_nbytes = max(self.peak_nbytes, total)
        return total

    def sample_peak(self) -> int:
        """Returns the peak so far in bytes, including now."""
        self.sample()
        return self.peak_nbytes

    def start(self) -> "PeakMemory":
        self.sample()
        self._thread = threading.Thread(target=self._run, name="peak memory", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> int:
        """Ends the sampling; returns the peak in bytes."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self.sample()
        return self.peak_nbytes

    def __enter__(self) -> "PeakMemory":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        """Samples, less often the longer a sample takes: the kernel walks all pages, which blocks allocations."""
        pause = self._interval
        while not self._ended.wait(pause):
            start = time.perf_counter()
            self.sample()
            pause = max(self._interval, (time.perf_counter() - start) / MOST_SHARE)
