"""What can be refused without a cluster is looked at before one starts, and beside its start where that takes long."""

import threading
from collections.abc import Callable

SECONDS = 1.0  # that the start of a cluster waits; so long, local files and a job are read and checked


class HeadStart:
    """Holds `start` back until `look` is done, or for `seconds`; where `look` fails by then, nothing is started."""

    def __init__(self, look: Callable[[], object], seconds: float = SECONDS) -> None:
        self._look, self._seconds = look, seconds
        self._done = threading.Event()
        self._failed = False

    def held[Result](self, start: Callable[[], Result]) -> Callable[[], Result]:
        """`start`, for the thread that is to start the cluster."""

        def run() -> Result:
            self._done.wait(self._seconds)
            if self._failed:
                raise NotStarted
            return start()

        return run

    def before(self, then: Callable[[], object]) -> Callable[[], None]:
        """The look and then `then`, for the thread that waits for the cluster; raises what the look raises."""

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
    """The cluster was not started: what was looked at first has failed.  Never leaves `connect`."""
