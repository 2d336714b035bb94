"""Measures the peak of a worker's resident memory by stage: the kernel keeps it, and it can be reset.

The resident set is what a nanny compares with a worker's limit.  Linux only; elsewhere nothing is measured.
"""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator


def read_peak_nbytes() -> int | None:
    """Returns the peak of this process's resident set since the last reset; None if the system does not report it."""
    with contextlib.suppress(OSError), open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def reset_peak() -> bool:
    """Makes the current size of the resident set the peak; returns whether the system allows that."""
    try:
        with open("/proc/self/clear_refs", "wb") as references:
            references.write(b"5")
    except OSError:
        return False
    return True


class PeakRss:
    """The peaks of one process by stage of each run, while tasks of several threads enter and leave stages.

    A peak counts for all stages that have tasks at that time; what grows between two tasks of a stage, for that stage.
    Reading and resetting take 70 microseconds together (measured), so both happen only when the stages change: a pass
    over thousands of files costs as much as one over a few.
    """

    def __init__(
        self, read: Callable[[], int | None] = read_peak_nbytes, reset: Callable[[], bool] = reset_peak
    ) -> None:
        self._read, self._reset = read, reset
        self._lock = threading.Lock()
        self._inside: Counter[tuple[Hashable, str]] = Counter()  # tasks by run and stage
        self._since_reset: frozenset[tuple[Hashable, str]] = frozenset()  # what the current peak counts for
        self._peaks: dict[tuple[Hashable, str], int] = {}
        self._usable = True  # until a reset fails: later peaks would include earlier ones

    @contextlib.contextmanager
    def stage(self, run: Hashable, name: str) -> Iterator[None]:
        """Counts the peak of the block for this stage of the run."""
        with self._lock:
            self._inside[run, name] += 1
            self._change()
        try:
            yield
        finally:
            with self._lock:
                self._inside[run, name] -= 1
                if not self._inside[run, name]:
                    del self._inside[run, name]
                if self._inside:  # else the next task is probably of the same stage
                    self._change()

    def pop(self, run: Hashable) -> dict[str, int]:
        """Returns a run's peaks, stage -> bytes, and forgets them."""
        with self._lock:
            self._assign()
            self._since_reset = frozenset(key for key in self._since_reset if key[0] != run or key in self._inside)
            return {stage: self._peaks.pop((of, stage)) for of, stage in list(self._peaks) if of == run}

    def _change(self) -> None:
        """Begins to measure for the stages that have tasks now, if they are others."""
        now = frozenset(self._inside)
        if now != self._since_reset:
            self._assign()
            self._usable = self._usable and self._reset()
            self._since_reset = now

    def _assign(self) -> None:
        """Assigns the peak to the stages that ran since the last reset."""
        peak = self._read() if self._since_reset and self._usable else None
        if peak is not None:
            for key in self._since_reset:
                self._peaks[key] = max(self._peaks.get(key, 0), peak)
