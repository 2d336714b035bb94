"""Runs checks that need no cluster before the cluster starts, and in parallel with its start if they take long."""

import threading
from collections.abc import Callable

SECONDS = 1.0  # that the start of a cluster waits; enough to read and check local files and a job


class HeadStart:
    """Delays `start` until `look` is done, or for `seconds`; if `look` fails by then, nothing is started."""

    def __init__(self, look: Callable[[], object], seconds: float = SECONDS) -> None:
        self._look, self._seconds = look, seconds
        self._done = threading.Event()
        self._failed = False

    def held[Result](self, start: Callable[[], Result]) -> Callable[[], Result]:
        """Wraps `start`, for the thread that starts the cluster."""

        def run() -> Result:
            self._done.wait(self._seconds)
            if self._failed:
                raise NotStarted
            return start()

        return run

    def before(self, then: Callable[[], object]) -> Callable[[], None]:
        """Calls `look` and then `then`, in the thread that waits for the cluster; raises what `look` raises."""

        def run() -> None:
            try:
                self._look()
            except BaseException:
                self._failed = True
                raise
            finally:
                self._done.set()
            then()

        return run


class NotStarted(Exception):
    """The cluster was not started, because `look` failed.  Never leaves `connect`."""
