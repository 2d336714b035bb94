"""Values on the cluster that many tasks need: recomputed if another client has cancelled them."""

import time
from collections.abc import Callable
from concurrent.futures import CancelledError

from distributed import Client, Future

from pipeline.runtime.rpc import CONNECTION_LOST

RETRIES = 3  # after another client has cancelled tasks
SEND_SECONDS = 30.0  # for restarting workers to accept a value again
TICK_SECONDS = 0.5


class SharedValue:
    """A value on the cluster; `send` puts it there, again if its future was cancelled or lost."""

    def __init__(self, send: Callable[[], Future]) -> None:
        self._send = send
        self._sent: Future | None = None

    def future(self) -> Future:
        """Returns the future of the value, usable now."""
        if self._sent is None or not is_usable(self._sent):
            self._sent = self._send()
        return self._sent


def is_usable(future: Future) -> bool:
    """Whether the future has a value or will have one: it is neither failed, cancelled nor lost."""
    return future.status in ("pending", "finished")


def cancelled_by_others(error: CancelledError) -> bool:
    """Whether another client cancelled the tasks, as `client.restart()` does: False if the connection was lost."""
    return getattr(error, "reason", "") != CONNECTION_LOST


def broadcast(client: Client, value: object) -> SharedValue:
    """Puts a copy on every worker; restarting workers get SEND_SECONDS to accept it."""

    def send() -> Future:
        deadline = time.monotonic() + SEND_SECONDS
        while True:
            try:
                sent: Future = client.scatter(value, broadcast=True, hash=False)
            except (OSError, CancelledError):  # its workers are shutting down
                if time.monotonic() > deadline:
                    raise
                time.sleep(TICK_SECONDS)
            else:
                return sent

    return SharedValue(send)
