"""Tracks cluster membership during a run: deaths, hangs, returns, joins.

Every worker's event loop, in a thread separate from the threads that compute, sends Dask's heartbeat to the scheduler:
about twice a second with up to ten workers, less often with more.  A worker whose last heartbeat does not change for
`hang_seconds`, by the clock of this process, is considered hung and killed through its nanny.  A slow task does not
stop the event loop, unless it holds Python's lock (GIL), as code in `data.function` may: then the event loop is blocked
too, and the worker looks hung if that lasts as long.  `training.xgboost.slow_rounds` reports slow rounds.
While the scheduler itself is silent no heartbeat can arrive: that time counts against no worker.

A worker is a process, not an address: with `dask worker --worker-port` the next process has the address of the lost
one.
"""

import contextlib
import contextvars
import functools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, wait
from concurrent.futures import Future as Outcome
from typing import Any

from distributed import Client, Future, KilledWorker
from distributed.scheduler import NoValidWorkerError

from pipeline.cluster.launchers.launched import launched
from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.errors import CollectiveError, DepartureError, SchedulerLostError, TrainingError, WorkerLostError
from pipeline.runtime import nannies
from pipeline.runtime.future_set import FutureSet
from pipeline.runtime.patience import Patience
from pipeline.runtime.rpc import (
    ANSWER_SECONDS,
    RECONNECT_SECONDS,
    call_if_connected,
    scheduler_lost,
    translate_connection_errors,
)
from pipeline.runtime.shared_value import cancelled_by_others
from pipeline.runtime.silence import WORKER_NOTE_SECONDS, SchedulerSilence

POLL_SECONDS = 0.5
POLL_SHARE = 0.05  # of the time that may be spent on polling
SCHEDULER_SECONDS = 60.0  # of the scheduler's silence, for runs without `cluster.hang_seconds`
ASK_AGAIN_SECONDS = 0.2  # after a request without an answer
LEAVING = ("closing_gracefully", "closing")  # status of a worker that gets no more tasks and is about to end
MIB = 2**20

Facts = Mapping[str, Any]  # what the scheduler reports of a worker
LossHandler = Callable[[str, str], None]  # address, reason


def _never_ended() -> None:
    """Default: never stops the run early."""


def _discard_loss(address: str, reason: str) -> None:
    """Default: ignores lost workers."""


def _discard_note(message: str) -> None:
    """Default: drops notes."""


def _answer_into[Answer](outcome: Outcome[Answer], context: contextvars.Context, ask: Callable[[], Answer]) -> None:
    """Not a closure: an error's frames keep their functions, and with them what those close over, such as futures."""
    try:
        outcome.set_result(context.run(ask))
    except BaseException as error:
        outcome.set_exception(error)


class WorkerMembership:
    """Watches the cluster of a client in its own thread; a context manager."""

    def __init__(
        self,
        client: Client,
        hang_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        *,
        patience_seconds: float = math.inf,
    ) -> None:
        """`hang_seconds`: silence until a worker is killed, and the scheduler counts as lost; default: never, and 60 s.

        `patience_seconds`: how long the cluster may have no worker at all.
        """
        self.client, self._hang_seconds, self._clock = client, hang_seconds, clock
        self.lost: LossHandler = _discard_loss  # called once for every worker that leaves
        self.ended: Callable[[], None] = _never_ended  # raises to end the run for another reason
        self.note: Callable[[str], object] = _discard_note  # shows a line to the user
        self.names: dict[str, str] = {}  # of every worker ever seen, by address
        self.most = 0  # workers that were present at the same time
        self.services: Mapping[str, Any] = {}  # of the scheduler: ports by name
        self.scheduler_info: Callable[[Client, float], dict[str, Any]] = scheduler_info  # within so many seconds
        self.poll_seconds, self.ask_again_seconds = POLL_SECONDS, ASK_AGAIN_SECONDS
        self._present: dict[str, Facts] = {}  # by address
        self._tracked: dict[str, str] = {}  # address -> the process that the run uses there
        self._heartbeats: dict[str, tuple[float, float]] = {}  # process -> (last heartbeat, when we first saw it)
        self._reasons: dict[str, str] = {}  # of processes that are gone, or given up
        self._ending: set[str] = set()  # processes that are being killed
        self._noted: set[str] = set()  # processes whose silence was noted
        self._announced: set[str] = set()  # processes that are gone, or about to go, and announced that before
        self._leaving: set[str] = set()  # those of `_announced` that are still connected
        self._cut_off: set[str] = set()  # processes to be killed on hosts that do not answer
        self._earlier: set[tuple[str, int]] = set()  # killed for memory before the watch began: address and process id
        self._explained: set[tuple[str, int]] = set()  # the same; those that already explained a loss
        self._lock = threading.Lock()  # one refresh at a time: an older answer must not overwrite a newer one
        self._stop = threading.Event()
        self._unsaid: deque[str] = deque()  # notes made while the lock was held, to be emitted after it is released
        self._silence = SchedulerSilence(
            SCHEDULER_SECONDS if math.isinf(hang_seconds) else hang_seconds, self._unsaid.append
        )
        self._patience = Patience(patience_seconds, lambda message: self.note(message))
        self._scheduler_error: str | None = None
        self._error: BaseException | None = None  # raised in the watching thread, also by callbacks
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "WorkerMembership":
        self._earlier = nannies.ended_for_memory(self.client)
        self._explained = set(self._earlier)
        self.refresh()
        self._thread = threading.Thread(target=self._watch, name="members", daemon=True)
        self._thread.start()
        return self

    def begin_again(self) -> None:
        """Forgets the error with which an earlier run on the same watch ended, so that the next one can begin."""
        if self._error is not None and self._thread is not None and not self._stop.is_set():
            self._thread.join(ANSWER_SECONDS)  # it ends with the error
            self._error = None
            self._thread = threading.Thread(target=self._watch, name="members", daemon=True)
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(ANSWER_SECONDS)

    def refresh(self) -> dict[str, Facts]:
        """Returns the workers that are present now and neither about to leave nor being killed, by address.

        Waits while the scheduler is silent.  SchedulerLostError if its connection is closed and does not come back, or
        if it is silent for too long.
        """
        while True:
            try:
                found = self._refresh()
            finally:  # outside the lock: a handler of a note may call `refresh`, too
                self._say_notes()
            if found is not None:
                break
            if self._stop.wait(self.ask_again_seconds):  # the context was left: stop waiting
                raise scheduler_lost("it does not answer")
        present, gone = found
        for address, reason in gone:
            self.lost(address, reason)
        return present

    def _refresh(self) -> tuple[dict[str, Facts], list[tuple[str, str]]] | None:
        """Returns the workers, and those that have gone since (address, reason); None if the scheduler is silent."""
        with self._lock:
            if self._scheduler_error is not None:  # raise at once: callers that clean up have little time
                raise scheduler_lost(self._scheduler_error)
            info = self._ask()
            if info is None:
                return None
            self.services = info.get("services", {})
            gone = self._note(info["workers"])
            here = self._present.items()
            return {address: facts for address, facts in here if process(facts) not in self._reasons}, gone

    def _say_notes(self) -> None:
        while self._unsaid:
            try:
                message = self._unsaid.popleft()
            except IndexError:  # another thread was faster
                return
            self.note(message)

    def processes(self) -> dict[str, str]:
        """Returns the worker processes that were present at the latest refresh, by address."""
        return {address: process(facts) for address, facts in self._present.items()}

    def _ask(self) -> dict[str, Any] | None:
        """Returns the scheduler's answer; None if it is silent.  SchedulerLostError if it is lost."""
        self._silence.asked(self._clock())
        try:
            _await_connection(self.client)
            info = self.scheduler_info(self.client, self._silence.patience(self._clock(), ANSWER_SECONDS))
        except (OSError, RuntimeError) as error:  # RuntimeError: the client was closed meanwhile
            connected = isinstance(error, OSError) and self.client.status == "running"
            lost = self._silence.unanswered(self._clock()) if connected else str(error)
            if lost is None:
                return None
            self._scheduler_error = lost
            raise scheduler_lost(lost) from None
        if silent := self._silence.answered(self._clock()):  # no heartbeat could arrive meanwhile
            self._heartbeats = {worker: (word, at + silent) for worker, (word, at) in self._heartbeats.items()}
        return info

    def call[Answer](self, ask: Callable[[], Answer], addresses: Iterable[str] = ()) -> Answer:
        """Returns what `ask` returns, or raises what it raises; for calls in which Dask would wait without a limit.

        `ask` runs in its own thread.  Raises as `raise_if_lost` if the run ends, or one of these workers leaves, before it
        returns.
        """
        outcome: Outcome[Answer] = Outcome()
        addresses = list(addresses)
        arguments = outcome, contextvars.copy_context(), ask
        threading.Thread(target=_answer_into, args=arguments, name="ask scheduler", daemon=True).start()
        while not wait([outcome], self.poll_seconds).done:
            self.raise_if_lost(addresses)
        return outcome.result()

    def track(self, processes: Mapping[str, str]) -> None:
        """Track these worker processes; earlier processes at the same addresses are ignored."""
        self._tracked.update(processes)

    def raise_if_lost(self, addresses: Iterable[str]) -> None:
        """Raises WorkerLostError for the first of these workers that has left (DepartureError if announced).

        Also raises SchedulerLostError, errors of callbacks, and what `ended` raises, so that every wait is
        interruptible.
        """
        self.ended()
        if self._scheduler_error is not None:
            raise scheduler_lost(self._scheduler_error)
        if self._error is not None:
            raise self._error
        for address in addresses:
            counted_on = self._tracked.get(address, "")
            reason = self._reasons.get(counted_on)
            if reason is not None:
                kind = DepartureError if counted_on in self._announced else WorkerLostError
                raise kind(address, reason)

    def announced(self, addresses: Iterable[str]) -> dict[str, bool]:
        """Returns those of these workers that have announced that they leave, and whether each is still connected."""
        counted_on = {address: self._tracked.get(address, "") for address in addresses}
        return {address: meant in self._leaving for address, meant in counted_on.items() if meant in self._announced}

    def translate_connection_errors(self) -> contextlib.AbstractContextManager[None]:
        """Converts errors caused by losing the scheduler into SchedulerLostError."""
        return translate_connection_errors(self.client, lambda: self._scheduler_error)

    def wait(self, futures: Sequence[Future], addresses: Sequence[str], seconds: float = math.inf) -> bool:
        """Waits until all futures are done, or failed, or for about `seconds`; returns whether they all are.

        Raises as `raise_if_lost` if one of the workers leaves meanwhile.
        """
        pending, begin = FutureSet(futures), time.monotonic()
        while pending and time.monotonic() - begin <= seconds:
            pending.wait_any(self.poll_seconds)
            self.raise_if_lost(addresses)
        return not pending

    def results(self, futures: Sequence[Future], addresses: Sequence[str]) -> list[Any]:
        """Returns the futures' results.  Raises as `wait`, or what the first failing task raised.

        CollectiveError if another client cancelled them: a retry helps.
        """
        self.wait(futures, addresses)
        try:
            return list(self.call(functools.partial(self.client.gather, list(futures)), addresses))
        except (CancelledError, KilledWorker, NoValidWorkerError, OSError) as error:
            self.refresh()  # a worker may have left between the two calls
            self.raise_if_lost(addresses)
            if isinstance(error, CancelledError) and cancelled_by_others(error):
                raise CollectiveError("another client cancelled this run's tasks (client.restart()?)") from None
            raise

    def _note(self, workers: Mapping[str, Facts]) -> list[tuple[str, str]]:
        """Records the workers that are present; returns the addresses that have gone since, with the reasons."""
        now, gone = self._clock(), []
        here = {address: facts for address, facts in workers.items() if facts["status"] not in LEAVING}
        for address, facts in self._present.items():
            lost = process(facts)
            if address in here and process(here[address]) == lost:
                continue
            self._heartbeats.pop(lost, None)
            if lost not in self._reasons:
                leaving = address in workers and process(workers[address]) == lost
                if leaving:
                    self._announced.add(lost)
                self._reasons[lost] = self._reason(address, facts, leaving=leaving)
                gone.append((address, self._reasons[lost]))
        for address in here.keys() - self._present.keys():
            if (back := process(here[address])) not in self._ending:
                self._reasons.pop(back, None)  # it was to be retired, and was not
                self._announced.discard(back)
        self._leaving = {process(facts) for facts in workers.values() if facts["status"] in LEAVING}
        self._present, self.most = here, max(self.most, len(here))
        for address, facts in here.items():
            self.names[address] = str(facts["name"])
            self._tracked.setdefault(address, process(facts))
            word = float(facts["last_seen"])
            if self._heartbeats.get(process(facts), (None, 0.0))[0] != word:
                self._heartbeats[process(facts)] = (word, now)
                if process(facts) in self._cut_off:  # its host is back
                    self._cut_off.discard(process(facts))
                    self._reasons.pop(process(facts), None)
        return gone

    def _reason(self, address: str, facts: Facts, *, leaving: bool = False) -> str:
        """Returns why a worker left, as far as known: from our own nanny, or from the nanny's report to the scheduler."""
        ended = {event for event in nannies.ended_for_memory(self.client) - self._explained if event[0] == address}
        self._explained |= ended
        if ended:
            limit = f" of {facts['memory_limit'] / MIB:,.0f} MiB" if facts.get("memory_limit") else ""
            return f"its memory came near the limit{limit} (cluster.memory); ended by its nanny"
        if leaving:
            return "it was retired"
        code = launched(self.client).exit_code(address)
        if code is not None:
            return f"killed by signal {-code}" if code < 0 else f"its process ended with code {code}"
        return "its process ended or its connection broke"

    def frozen(self) -> list[str]:
        """Returns the addresses of workers that have been silent for too long."""
        now = self._clock()
        with self._lock:
            return self._silent(now)

    def _silent(self, now: float, seconds: float | None = None) -> list[str]:
        seconds = self._hang_seconds if seconds is None else seconds
        return [
            address
            for address, facts in self._present.items()
            if now - self._heartbeats[process(facts)][1] > seconds and process(facts) not in self._reasons
        ]

    def all_heard(self, addresses: Iterable[str]) -> bool:
        """Whether none of these workers has been silent for half of the time after which it counts as hung."""
        now = self._clock()
        with self._lock:
            return not {*self._silent(now, self._hang_seconds / 2)} & {*addresses}

    def note_silent(self) -> None:
        """Emits a note for each worker that is silent but not yet killed for it, once per process."""
        if not WORKER_NOTE_SECONDS < self._hang_seconds < math.inf:
            return
        with self._lock:
            silent = [
                address
                for address in self._silent(self._clock(), WORKER_NOTE_SECONDS)
                if process(self._present[address]) not in self._noted
            ]
            self._noted.update(process(self._present[address]) for address in silent)
        for address in silent:
            self.note(
                f"worker {self.names[address]} has sent no heartbeat for {WORKER_NOTE_SECONDS:g} s: busy without releasing "
                f"Python's lock, or its network is down; it is ended after {self._hang_seconds:g} s (cluster.hang_seconds)"
            )

    def out_of_memory(self, planned_nbytes: int) -> str | None:
        """Returns the message for workers that were killed for their memory; None if none was since the watch began.

        `planned_nbytes`: expected memory of each worker.
        """
        times = len(nannies.ended_for_memory(self.client) - self._earlier)
        limits = [facts.get("memory_limit") for facts in self._present.values()]
        limits += [worker.memory_limit_nbytes for worker in launched(self.client).workers()]
        limit = min((limit for limit in limits if limit), default=None)
        if not times or limit is None:
            return None
        return (
            f"workers were ended {times} time{'s' * (times != 1)} because their memory came near the limit of "
            f"{limit / MIB:,.0f} MiB, and one is expected to take {planned_nbytes / MIB:,.0f} MiB: {launched(self.client).more_memory}"
        )

    def lost_worker(self) -> tuple[str, str] | None:
        """Returns the name of a worker that is missing, and why; None if none is known."""
        present = {str(facts["name"]) for facts in self.refresh().values()}
        for worker in launched(self.client).workers():
            if worker.name not in present and worker.exit_codes:
                return worker.name, self._reason(list(worker.exit_codes)[-1], {})
        for address, counted_on in reversed(self._tracked.items()):
            if counted_on in self._reasons and self.names[address] not in present:
                return self.names[address], self._reasons[counted_on]
        return None

    def expected_count(self) -> int:
        """Returns how many workers there would be if none were lost, as far as known."""
        return max(self.most, len(launched(self.client).workers()))

    def _watch(self) -> None:
        pause = self.poll_seconds
        try:
            while not self._stop.wait(pause):
                start = self._clock()
                self.refresh()
                self.note_silent()
                if (why := self._patience.seen(self._clock(), len(self._present))) is not None:
                    raise TrainingError(why)
                self.end_frozen()
                pause = min(10 * self.poll_seconds, max(self.poll_seconds, (self._clock() - start) / POLL_SHARE))
        except SchedulerLostError:
            pass  # `raise_if_lost` raises it
        except BaseException as error:
            self._error = error  # `raise_if_lost` raises it in the threads that wait for workers

    def terminate(self, address: str, reason: str) -> None:
        """Has a worker's nanny kill it, if it is present; from now on it counts as lost.

        The scheduler closes and removes a worker that has no nanny.
        """
        with self._lock:
            if address not in self._present or process(self._present[address]) in self._reasons:
                return
            ended = self._mark_dead(address, reason)
        self._terminate_async(address, ended, reason)

    def leave_out(self, address: str, reason: str) -> None:
        """Counts a worker as lost for this run without killing its process: other workers cannot reach it."""
        with self._lock:
            if address not in self._present or process(self._present[address]) in self._reasons:
                return
            self._announced.add(self._mark_dead(address, reason))
        self.lost(address, reason)

    @property
    def hang_seconds(self) -> float:
        """The silence after which a process is considered hung."""
        return self._hang_seconds

    def end_frozen(self) -> None:
        """Has the nannies of workers that have been silent for too long kill them; they count as lost."""
        for address in self.frozen():
            self._end_frozen(address)

    def _end_frozen(self, address: str) -> None:
        reason = f"silent for {self._hang_seconds:g} s (cluster.hang_seconds), ended"
        with self._lock:
            if address not in self._silent(self._clock()):
                return  # it has sent a heartbeat, or is gone
            ended = self._mark_dead(address, reason)
        self._terminate_async(address, ended, reason)

    def _mark_dead(self, address: str, reason: str) -> str:
        """Marks the process at the address as lost from now on, and returns it."""
        given_up = process(self._present[address])
        self._ending.add(given_up)
        self._reasons[given_up] = reason
        return given_up

    def _terminate_async(self, address: str, ended: str, reason: str) -> None:
        threading.Thread(target=self._end_if_reached, args=(address, ended), name="end worker", daemon=True).start()
        self.lost(address, reason)

    def _end_if_reached(self, address: str, ended: str) -> None:
        """Has a worker's nanny kill it; if its host does not answer, the worker is kept, for use once the host is back."""
        if call_if_connected(self.client, functools.partial(nannies.end, self.client, address)) is False:
            with self._lock:
                self._ending.discard(ended)
                self._cut_off.add(ended)
            self.note(
                f"worker {self.names[address]} was not ended: its host does not answer; it can be used again once it does"
            )


def _await_connection(client: Client) -> None:
    """Raises OSError if the connection to the scheduler is closed and does not come back in time."""
    deadline = time.monotonic() + RECONNECT_SECONDS
    while client.status == "connecting" and time.monotonic() < deadline:  # Dask reconnects by itself
        time.sleep(0.05)
    if client.status != "running":
        raise OSError("the connection is closed")


def process(facts: Facts) -> str:
    """Identifies a worker process, also among those at the same address: by its folder, which is made when it starts."""
    return f"{facts['host']}:{facts['local_directory']}"
