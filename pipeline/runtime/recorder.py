"""Accounts for the time of one run's workers, read from Dask's own state, on each worker's clock.

Three independent instruments: an observer receives every transition of the worker's state machine and counts the slots
that have a task; the task's thread records what it computed (`pipeline.runtime.task_ledger`); Dask's digests record what it
cost to bring a task to its thread and its result away from it.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask.utils import key_split
from distributed import Client

from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.efficiency.account import Account, MissingReading, Rounds, TaskTime, WorkerReading, account
from pipeline.efficiency.round_meter import MeterRecord
from pipeline.efficiency.split import worker_samples
from pipeline.runtime.placement import WorkerInfo
from pipeline.runtime.rpc import ANSWER_SECONDS, ask_workers, call_if_connected
from pipeline.runtime.task_ledger import RUN, Ledger
from pipeline.runtime.timing import StageTimer
from pipeline.runtime.worker_session import Content, RunResource, session_of

MULTITHREADED_TASKS = frozenset({"build", "rounds"})  # key prefixes of tasks that use every thread of their worker
CREDIBLE = 0.1  # by this share the parts of a worker's rounds may exceed the whole
BROKEN_OFF = frozenset({"failed", "cancelled"})  # Dask books all seconds of a task that had no result under these
CHANGES = frozenset({"executing", "long-running", "flight"})  # states that keep a slot, or that a slot may wait for


class WorkerTime(RunResource):
    """Integrates over time, in slot-seconds: how many slots are busy, wait for data, or have nothing to do."""

    def __init__(self, run: str, worker: Any, ledger: Ledger) -> None:
        self.run, self._worker, self._ledger = run, worker, ledger
        self._slots = worker.state.nthreads
        self._begin = self._since = time.perf_counter()
        self._digests = dict(worker.digests_total)
        self._tasks: dict[str, TaskTime] = {}  # by prefix
        self._ours: dict[str, int] = {}  # prefix -> slots in use now
        self._others = self._coming = 0  # slots of other runs' tasks; tasks whose data are in transfer to here
        self._sums = [0.0] * 3  # other runs, exposed transfer, free
        self._look()  # a task of an interrupted attempt may still run

    def contents(self) -> tuple[Content, ...]:
        return (Content("the account of its time"),)

    def transition(self, start: str, finish: str) -> None:
        if start in CHANGES or finish in CHANGES:
            self._add_up()
            self._look()

    def _add_up(self) -> None:
        now = time.perf_counter()
        passed, self._since = now - self._since, now
        left = self._slots
        for prefix, slots in self._ours.items():
            known = self._tasks.get(prefix, TaskTime(prefix, 0.0, 0.0))
            self._tasks[prefix] = TaskTime(prefix, known.seconds + passed, known.busy + passed * min(slots, left))
            left -= min(slots, left)
        others = min(self._others, left)
        transfer = min(self._coming, left - others)
        for place, slots in enumerate((others, transfer, left - others - transfer)):
            self._sums[place] += passed * slots

    def _look(self) -> None:
        self._ours, self._others = {}, 0
        for task in self._worker.state.all_running_tasks:
            prefix = key_split(task.key)
            if (task.annotations or {}).get(RUN) == self.run:
                self._ours[prefix] = self._ours.get(prefix, 0) + (self._slots if prefix in MULTITHREADED_TASKS else 1)
            else:
                self._others += 1
        self._coming = self._worker.state.in_flight_tasks_count

    def reading(self) -> WorkerReading:
        self._add_up()
        others, transfer, free = self._sums
        return WorkerReading(
            worker=str(self._worker.name),
            slots=self._slots,
            seconds=self._since - self._begin,
            tasks=tuple(self._tasks.values()),
            others=others,
            transfer=transfer,
            free=free,
            parts=self._ledger.parts(),
            **self._digested(),  # type: ignore[arg-type]  # floats, which have no field that takes something else
        )

    def _digested(self) -> dict[str, float]:
        """Returns what Dask has booked for our tasks' prefixes since the watch began; see `WorkerReading`."""
        found = {"cpu": 0.0, "off_cpu": 0.0, "wide": 0.0, "overhead": 0.0}
        for key, value in list(self._worker.digests_total.items()):
            if not (isinstance(key, tuple) and key[0] == "execute" and key[-1] == "seconds" and key[2] in self._tasks):
                continue
            seconds, wide = value - self._digests.get(key, 0.0), key[2] in MULTITHREADED_TASKS
            if key[3] in BROKEN_OFF:  # they include its thread's seconds; narrow tasks count by their parts alone
                found["wide"] += seconds if wide else 0.0
            elif key[3] not in ("thread-cpu", "thread-noncpu"):
                found["overhead"] += seconds * (self._slots if wide else 1)
            elif wide:
                found["wide"] += seconds
            else:
                found["cpu" if key[3] == "thread-cpu" else "off_cpu"] += seconds
        return found


class TimeAccountant:
    """The watches of one run's workers, and the client's clock.

    When workers are lost or join, the run restarts, and so do all watches: the account is the sum of the accounts of
    its segments, each of which has the same workers from its start on.  So a worker is charged no waiting or idle time
    from before it joined.
    """

    def __init__(self, client: Client, run: str, workers: Sequence[WorkerInfo], clock: StageTimer) -> None:
        """Starts to watch the run's tasks on these workers."""
        self._client, self._run, self._clock = client, run, clock
        self._running = True
        self._addresses: set[str] = set()  # of all workers that were ever watched
        self._earlier: Account | None = None  # of the segments before this one
        self._at_first = dict(clock.seconds)  # of each stage, before the first segment
        asked = clock.clock()
        self._ask(_begin, workers)
        self._first = (asked + clock.clock()) / 2
        self._enter(workers, self._first)

    def _enter(self, workers: Sequence[WorkerInfo], now: float) -> None:
        """Begins a segment."""
        self._workers, self._start, self._before = tuple(workers), now, self._stages(now)
        self._lost: dict[str, tuple[float, Mapping[str, float]]] = {}  # address -> time of loss, and `_stages` then

    def lost(self, address: str) -> None:
        """Counts a lost worker until now.  Called from the thread that watches the cluster."""
        now = self._clock.clock()
        self._lost.setdefault(address, (now, self._stages(now)))

    def new_segment(self, workers: Sequence[WorkerInfo]) -> None:
        """Starts a new segment on these workers: those that are left, that came back, or joined."""
        asked = self._clock.clock()
        readings = self._ask(_renew, workers)
        now = (asked + self._clock.clock()) / 2
        self._earlier = self._account(now, readings, None)
        self._enter(workers, now)

    def account(self, rounds: Mapping[str, Rounds]) -> "ClosedAccount":
        """Ends the watches: from now on no worker has a task.  `rounds`: by worker name, since the last restart."""
        asked = self._clock.clock()
        readings = self.stop()
        now = (asked + self._clock.clock()) / 2  # the workers read their clocks between request and answer
        return ClosedAccount(self._account(now, readings, rounds), now, self._clock)

    def _account(
        self, now: float, readings: Mapping[str, WorkerReading], rounds: Mapping[str, Rounds] | None
    ) -> Account:
        """Returns the account up to now: this segment and those before it."""
        seen = [readings[worker.address] for worker in self._workers if worker.address in readings]
        unread = [self._unread(worker, now) for worker in self._workers if worker.address not in readings]
        made = account(seen, now - self._start, self._since(self._stages(now)), rounds, unread)
        return made if self._earlier is None else self._earlier.concat(made)

    def _unread(self, worker: WorkerInfo, now: float) -> MissingReading:
        until, stages = self._lost.get(worker.address) or (now, self._stages(now))
        return MissingReading(
            worker=worker.name,
            slots=worker.threads,
            seconds=max(0.0, min(until, now) - self._start),
            client=self._since(stages),
            lost=worker.address in self._lost,
        )

    def _stages(self, now: float) -> dict[str, float]:
        """Returns the client's seconds by stage since the first watch; unassigned ones count to the current stage."""
        spent = {
            stage: seconds - self._at_first.get(stage, 0.0) for stage, seconds in dict(self._clock.seconds).items()
        }
        current = self._clock.current  # "": between the stages
        spent[current] = spent.get(current, 0.0) + max(0.0, now - self._first - sum(spent.values()))
        return spent

    def _since(self, stages: Mapping[str, float]) -> dict[str, float]:
        """Returns the seconds per stage within the current segment."""
        return {stage: max(0.0, seconds - self._before.get(stage, 0.0)) for stage, seconds in stages.items()}

    def _ask(self, what: Callable[..., Any], workers: Sequence[WorkerInfo]) -> dict[str, WorkerReading]:
        """Calls the workers that are present; waits at most ANSWER_SECONDS: a slow worker must not delay a restart.

        The readings of the others must not be lost with its own: a worker that has just come back imports for seconds.
        """
        self._addresses.update(worker.address for worker in workers)
        info = call_if_connected(self._client, functools.partial(scheduler_info, self._client, ANSWER_SECONDS))
        present = info["workers"] if info else {}
        asks = {one.address: functools.partial(what, self._run) for one in workers if one.address in present}
        return _only_readings(ask_workers(self._client, asks, ANSWER_SECONDS))

    def stop(self) -> dict[str, WorkerReading]:
        """Ends the watches, if they still run; returns the readings of the workers (address) that answer."""
        if not self._running:
            return {}
        self._running = False
        try:
            present = scheduler_info(self._client, ANSWER_SECONDS)["workers"]
        except OSError:  # the scheduler is silent: do not wait for readings that pass through it
            return {}
        for worker in self._workers:
            if worker.address not in present:
                self.lost(worker.address)
        still = [address for address in self._addresses if address in present]
        return _only_readings(self._client.run(end_watch, self._run, workers=still, on_error="ignore"))


@dataclass(frozen=True)
class ClosedAccount:
    """An account whose tasks are over, while the client still works."""

    account: Account
    at: float  # when its window ended, by the client's clock
    clock: StageTimer

    def now(self, stage: str) -> Account:
        """Returns the account up to now; the client has been at `stage` since."""
        return self.account.extend_idle(max(0.0, self.clock.clock() - self.at), stage)


def rounds_of(meters: Sequence[MeterRecord], names: Sequence[str]) -> dict[str, Rounds]:
    """Returns the split of each worker's rounds from the meters; `names` by rank.

    Empty if the meters cannot give it: on GPUs, and if their parts exceed the measured time, because the few
    collectives that a short run replays met a load that the rounds had not.
    """
    samples = worker_samples(meters, names) if meters else ()
    found = {}
    for meter, sample in zip(sorted(meters, key=lambda record: record.rank), samples, strict=True):
        split = [getattr(sample.split, name) for name in ("useful", "transfer", "wait", "other")]
        if sample.closure is None or sum(split) > (1 + CREDIBLE) * sample.seconds:
            return {}
        found[sample.worker] = Rounds(sample.seconds * meter.rounds, *(part * meter.rounds for part in split))
    return found


def _only_readings(answers: Mapping[str, object]) -> dict[str, WorkerReading]:
    """Returns the readings of those workers (address) that had a watch."""
    return {address: reading for address, reading in answers.items() if isinstance(reading, WorkerReading)}


def _begin(run: str, dask_worker: Any) -> None:
    session, ledger = session_of(dask_worker), Ledger(run)
    with session.lock:
        session.put(run, ledger)
        session.put(run, WorkerTime(run, dask_worker, ledger))


def _renew(run: str, dask_worker: Any) -> WorkerReading | None:
    """Returns the reading of the watch, if there was one; starts a new watch."""
    reading = end_watch(run, dask_worker)
    _begin(run, dask_worker)
    return reading


def end_watch(run: str, dask_worker: Any) -> WorkerReading | None:
    """Ends the watch on this worker and returns its reading; None if there is none, as after a restart."""
    session = session_of(dask_worker)
    watch = session.pop(run, WorkerTime)
    session.pop(run, Ledger)
    peaks = session.peak_rss.pop(run)
    return None if watch is None else dataclasses.replace(watch.reading(), peak_rss_nbytes=peaks)
