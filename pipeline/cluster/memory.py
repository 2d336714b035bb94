"""Peak memory of all processes of a run together: this one and everything it started.

PSS counts each shared page once in all, so that sums mean something.  Reading it takes 0.1 to 1 ms per GB
of a process (measured), walking the tree of processes 0.05 ms.  Workers of a running scheduler are nobody's child here:
then it is this client's memory alone, and has to be called that (`counted`).
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable

INTERVAL_SECONDS = 0.2
MOST_SHARE = 0.002  # of the time that may go into sampling


def counted(own_workers: bool) -> str:
    """Whose memory it is, for people; `own_workers`: this process has started the workers."""
    return "all processes together" if own_workers else "this client alone"


def process_tree(root: int | None = None) -> list[int]:
    """The process (default: this one) and all its descendants."""
    found, waiting = [], [os.getpid() if root is None else root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(_children(pid))
    return found


def _children(pid: int) -> list[int]:
    """Children started by any thread of the process; empty when it has ended.

    As far as they can be seen: where we may open no more files, the sum of memory is too small for that moment.
    """
    children: list[int] = []
    with contextlib.suppress(OSError):  # the process has ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            with (
                contextlib.suppress(OSError),  # this thread has ended; the others' children count all the same
                open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as listing,
            ):
                children.extend(map(int, listing.read().split()))
    return children


def pss_nbytes(pid: int) -> int | None:
    """Proportional set size; None where the system does not tell (not Linux, or another user's process)."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            for line in rollup:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return 0  # a process that is ending has no memory left


def rss_nbytes(pid: int) -> int:
    """Resident set size; 0 for a process that has ended."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


class PeakMemory:
    """Samples the sum over some processes in a thread of its own, from `start` to `stop`; also a context manager.

    `pids` says which processes, anew for each sample; default: this one and everything it started.
    """

    def __init__(self, pids: Callable[[], Iterable[int]] = process_tree, interval: float = INTERVAL_SECONDS) -> None:
        self.peak_nbytes = 0
        self.measure = "pss" if pss_nbytes(os.getpid()) is not None else "rss"  # rss counts shared pages repeatedly
        self._pids, self._interval = pids, interval
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def sample(self) -> int:
        """The sum now, in bytes; the peak is kept."""
        if self.measure == "pss":
            total = sum(pss_nbytes(pid) or 0 for pid in self._pids())
        else:
            total = sum(rss_nbytes(pid) for pid in self._pids())
        self.peak_nbytes = max(self.peak_nbytes, total)
        return total

    def sample_peak(self) -> int:
        """The peak so far, in bytes, this moment counted in."""
        self.sample()
        return self.peak_nbytes

    def start(self) -> "PeakMemory":
        self.sample()
        self._thread = threading.Thread(target=self._run, name="peak memory", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> int:
        """Ends the sampling; the peak in bytes."""
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
        """Samples, the less often the longer it takes: the kernel walks all pages, and a process waits if it wants more."""
        pause = self._interval
        while not self._ended.wait(pause):
            start = time.perf_counter()
            self.sample()
            pause = max(self._interval, (time.perf_counter() - start) / MOST_SHARE)
