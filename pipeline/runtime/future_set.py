"""Waits for futures, for a limited time per call."""

import threading
from collections.abc import Iterable

from distributed import Future


class FutureSet:
    """Futures that are waited for, for a limited time per call.

    Dask's own `wait` raises when the time is over, through frames that then keep the futures, and with them matrices on
    the workers, until Python runs its cycle collector.
    """

    def __init__(self, futures: Iterable[Future]) -> None:
        self._left = list(futures)
        self._woken = threading.Event()
        for future in self._left:
            future.add_done_callback(self._wake)

    def _wake(self, future: Future) -> None:
        self._woken.set()

    def __len__(self) -> int:
        return len(self._left)

    def wait_any(self, seconds: float) -> list[Future]:
        """Returns those that have ended, or failed, since the last call; waits up to `seconds` for the first."""
        if all(future.status == "pending" for future in self._left):
            self._woken.wait(seconds)
        self._woken.clear()
        ended = [future for future in self._left if future.status != "pending"]
        self._left = [future for future in self._left if future not in ended]
        return ended
