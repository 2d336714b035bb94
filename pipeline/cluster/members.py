"""Who is in the cluster while a run goes on: workers that die, freeze, come back or join.

Every worker's event loop, a thread of its own beside those that compute, tells the scheduler twice a second that it
is alive.  A worker whose last word does not change for `hang_seconds`, by the clock of this process, is taken for
frozen and ended through its nanny.  A slow task is none of that: it leaves the event loop alone.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

from distributed import Client, Future, KilledWorker
from distributed.scheduler import NoValidWorkerError

from pipeline.cluster.identity import scheduler_info
from pipeline.errors import SchedulerLostError, WorkerLostError

POLL_SECONDS = 0.5
POLL_SHARE = 0.05  # of the time that may go into asking
ANSWER_SECONDS = 5.0  # for the scheduler to answer, and for a lost connection to come back
END_SECONDS = 10.0  # for a nanny to end a frozen worker

Facts = Mapping[str, Any]  # what the scheduler says of a worker
Heard = Callable[[str, str], None]  # address, reason


def nobody(address: str, reason: str) -> None:
    """Hears of lost workers where nobody else does."""


class Members:
    """Watches the cluster of a client, in a thread of its own; a context manager."""

    def __init__(
        self,
        client: Client,
        hang_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`hang_seconds`: the silence after which a worker is ended; default: never."""
        self.client, self._hang_seconds, self._clock = client, hang_seconds, clock
        self.lost: Heard = nobody  # told of every worker that leaves, once
        self.names: dict[str, str] = {}  # of every worker ever seen, by address
        self._present: dict[str, Facts] = {}
        self._words: dict[str, tuple[float, float]] = {}  # address -> (its last word, when we first heard it)
        self._reasons: dict[str, str] = {}  # of those that are gone
        self._ending: set[str] = set()  # frozen ones that are being ended
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._scheduler_error: str | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Members":
        self.look()
        self._thread = threading.Thread(target=self._watch, name="members", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(ANSWER_SECONDS)

    def look(self) -> dict[str, Facts]:
        """The workers that are there now and not about to be ended, by address.  SchedulerLostError."""
        try:
            info = _ask(self.client)
        except (OSError, RuntimeError) as error:  # RuntimeError: the client was closed meanwhile
            raise self._scheduler_lost(str(error)) from None
        with self._lock:
            gone = [address for address in self._note(info["workers"]) if address not in self._ending]
            present = {address: facts for address, facts in self._present.items() if address not in self._ending}
        for address in gone:
            self.lost(address, self._reasons[address])
        return present

    def check(self, addresses: Iterable[str]) -> None:
        """WorkerLostError for the first of these workers that has left; SchedulerLostError."""
        if self._scheduler_error is not None:
            raise self._scheduler_lost(self._scheduler_error)
        for address in addresses:
            if address in self._reasons:
                raise WorkerLostError(address, self._reasons[address])

    def wait(self, futures: Sequence[Future], addresses: Sequence[str]) -> None:
        """Waits until all futures are done, well or not; raises as `check` where one of the workers leaves meanwhile."""
        pending = Pending(futures)
        while pending:
            pending.ended(POLL_SECONDS)
            self.check(addresses)

    def results(self, futures: Sequence[Future], addresses: Sequence[str]) -> list[Any]:
        """Their results.  Raises as `wait`, or what the first failing task raised."""
        self.wait(futures, addresses)
        try:
            return list(self.client.gather(list(futures)))
        except (CancelledError, KilledWorker, NoValidWorkerError, OSError):
            self.look()  # a worker that left between the two
            self.check(addresses)
            raise

    def _note(self, workers: Mapping[str, Facts]) -> list[str]:
        """Takes down who is there; the addresses that have gone since."""
        now = self._clock()
        gone = [address for address in self._present if address not in workers]
        for address in gone:
            self._words.pop(address, None)
            self._reasons.setdefault(address, reason_of(self.client, address, self._present[address]))
        self._present = dict(workers)
        for address, facts in workers.items():
            self.names[address] = str(facts["name"])
            word = float(facts["last_seen"])
            if self._words.get(address, (None, 0.0))[0] != word:
                self._words[address] = (word, now)
        return gone

    def frozen(self) -> list[str]:
        """Workers that have been silent for too long."""
        now = self._clock()
        return [
            address
            for address, (_, heard) in self._words.items()
            if now - heard > self._hang_seconds and address not in self._ending
        ]

    def _watch(self) -> None:
        pause = POLL_SECONDS
        while not self._stop.wait(pause):
            start = self._clock()
            try:
                self.look()
            except SchedulerLostError:
                return
            for address in self.frozen():
                self._end(address)
            pause = min(10 * POLL_SECONDS, max(POLL_SECONDS, (self._clock() - start) / POLL_SHARE))

    def _end(self, address: str) -> None:
        """Has a frozen worker's nanny end it; from now on nobody counts on it."""
        with self._lock:
            self._ending.add(address)
            self._reasons[address] = f"silent for {self._hang_seconds:g} s (cluster.hang_seconds), ended"
        self.lost(address, self._reasons[address])

        def end() -> None:
            with contextlib.suppress(OSError, RuntimeError):
                self.client.restart_workers([address], timeout=END_SECONDS, raise_for_error=False)

        threading.Thread(target=end, name="end-frozen", daemon=True).start()

    def _scheduler_lost(self, error: str) -> SchedulerLostError:
        self._scheduler_error = error
        return SchedulerLostError(f"the scheduler was lost: {error}")


class Pending:
    """Futures that are waited for, a while at a time.

    Dask's own `wait` raises where the time is over, through frames that then keep the futures, and with them matrices
    on the workers, until Python happens to look for cycles.
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

    def ended(self, seconds: float) -> list[Future]:
        """Those that have ended since the last call, well or not; waits so long for the first."""
        if all(future.status == "pending" for future in self._left):
            self._woken.wait(seconds)
        self._woken.clear()
        ended = [future for future in self._left if future.status != "pending"]
        self._left = [future for future in self._left if future not in ended]
        return ended


def _ask(client: Client) -> dict[str, Any]:
    """OSError where the scheduler does not answer in time."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while client.status == "connecting" and time.monotonic() < deadline:  # Dask connects again by itself
        time.sleep(0.05)
    if client.status != "running":
        raise OSError("the connection is closed")
    return scheduler_info(client, ANSWER_SECONDS)


def reason_of(client: Client, address: str, facts: Facts) -> str:
    """Why a worker left, as far as can be known: from its nanny where that is ours, or has told the scheduler."""
    with contextlib.suppress(OSError, RuntimeError):
        for _, event in client.get_events("worker-restart-memory"):
            if event.get("worker") == address:
                limit = (facts.get("memory_limit") or 0) / 2**20
                return f"its memory came near the limit of {limit:,.0f} MiB (cluster.memory); ended by its nanny"
    for nanny in (getattr(client.cluster, "workers", None) or {}).values():
        code = getattr(nanny, "exits", {}).get(address)
        if code is not None:
            return f"killed by signal {-code}" if code < 0 else f"its process ended with code {code}"
    return "its process ended or its connection broke"
