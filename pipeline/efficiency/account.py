"""Accounts for the worker-seconds of a whole training: pure arithmetic on measurements.

A worker has a slot for tasks per thread.  From the start of the cluster until the model is saved, every slot
offers one worker-second a second, each of which was spent on one of five things:

- useful: tasks computing, on their threads' CPU clocks;
- transfer: exchanging histograms (the meter's replays), or a free slot while data were on the way to this worker;
- wait: nothing to do while a peer still worked on the same phase, by the peers' clocks;
- other: in a task but not on the CPU (files, locks, another program on the core), joining the communicator, and what
  Dask takes to bring a task to its thread: deserialisation, event loop;
- idle: no task, no transfer, no peer at work: the client works.

Tasks are measured by their threads and by Dask's digests, free slots by the state machine of each worker, the window by
the client's clock.  The difference between the window and the sum is the remainder: it contains the closure error of
the rounds, and the time that no instrument measured.  A worker offers its seconds while it takes part: from when it
joined until it was lost.  The readings of a lost worker are lost with it; its time counts as other.  On 1 M generated
rows (workflows/generated.toml, 2 pinned workers, no other program on the cores) the remainder was 0.3 to 2.5 % in seven
runs; with other programs running up to 8 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.efficiency.advice import other_parts

KINDS = ("useful", "transfer", "wait", "other", "idle")
STAGES = (
    "reading", "statistics", "blocks", "matrix", "bootstrap", "rounds", "recovery", "evaluation", "saving", "scheduling",
    "others",
)  # fmt: skip
MULTITHREADED = frozenset(
    {"matrix", "bootstrap", "rounds", "meter", "scores"}
)  # parts that occupy every slot of their worker
STAGE_OF_PART = {
    "survey": "reading", "merge": "statistics", "fit": "statistics", "meter": "rounds", "scores": "evaluation", "evaluate": "evaluation",
}  # fmt: skip
STAGE_BY_TASK_PREFIX = {  # the prefix of a task's key -> the stage of the client that waits for it
    "count_unit": "survey", "survey_unit": "survey", "collect_unit": "statistics", "merge_all": "statistics", "fit": "statistics",
    "make_block": "blocks", "block_facts": "blocks", "identity": "blocks", "build": "matrix", "nbytes": "matrix",
    "labels_of": "rounds", "intercept_of": "rounds", "tracker_task": "rounds", "rounds": "rounds",
    "without_scores": "rounds", "only_scores": "rounds", "only_meter": "rounds", "evaluate": "evaluate",
}  # fmt: skip
STAGE_OF_CLIENT = {
    "metadata": "reading", "survey": "reading", "evaluate": "evaluation", "report": "saving", "save": "saving",
}  # fmt: skip


@dataclass(frozen=True)
class TimeSlice:
    """Time that one worker's tasks spent on one part of their work, without nested parts."""

    name: str  # e.g. "reading"
    seconds: float = 0.0  # wall clock
    cpu_seconds: float = 0.0  # of the tasks' own threads
    process_seconds: float = 0.0  # CPU of all threads of the process, during the part


@dataclass(frozen=True)
class TaskTime:
    """The run's tasks of one kind on one worker, as recorded by its state machine."""

    prefix: str  # of their keys
    seconds: float  # with at least one such task
    busy: float  # slot-seconds occupied by them


@dataclass(frozen=True)
class WorkerReading:
    """One worker's readings of a run, on its own clocks.  Slot-seconds: seconds times slots."""

    worker: str  # Dask's name of it
    slots: int
    seconds: float  # of observation
    tasks: tuple[TaskTime, ...]  # of this run
    others: float  # slot-seconds with tasks of other clients
    transfer: float  # slot-seconds without a task while data were being transferred here
    free: float  # slot-seconds without any of these
    parts: tuple[TimeSlice, ...]
    cpu: float = 0.0  # seconds, by Dask's digests: of the threads of tasks that use one slot each
    off_cpu: float = 0.0  # seconds in the same digests: these threads were in their tasks but not on the CPU
    wide: float = 0.0  # seconds in the same digests: the threads of tasks that use every slot
    overhead: float = 0.0  # slot-seconds in the same digests: deserialisation, executor, event loop
    peak_rss_nbytes: Mapping[str, int] = field(default_factory=dict)  # by part, of those that are within no other


@dataclass(frozen=True)
class Rounds:
    """One worker's boosting rounds as measured by the meter: seconds in all, of which..."""

    seconds: float
    useful: float
    transfer: float
    wait: float
    other: float


@dataclass(frozen=True)
class MissingReading:
    """A worker that took part, and whose readings are not available: its activity is unknown."""

    worker: str  # Dask's name of it
    slots: int
    seconds: float  # of taking part, by the client's clock
    client: Mapping[str, float]  # seconds the client spent on each of its stages meanwhile
    lost: bool  # its process has gone


@dataclass(frozen=True)
class StageTime:
    """Slot-seconds by kind."""

    useful: float = 0.0
    transfer: float = 0.0
    wait: float = 0.0
    other: float = 0.0
    idle: float = 0.0

    def __add__(self, more: "StageTime") -> "StageTime":
        return StageTime(*(getattr(self, kind) + getattr(more, kind) for kind in KINDS))

    @property
    def total(self) -> float:
        return self.useful + self.transfer + self.wait + self.other + self.idle


@dataclass(frozen=True)
class Account:
    """The complete account of a run."""

    seconds: float  # of the window, from the start of the cluster to the saved model, on the client's clock
    slots: Mapping[str, int]  # of each worker, by its name
    workers: Mapping[str, StageTime]  # by the worker's name
    stages: Mapping[str, StageTime]  # the same, by stage; in the order of STAGES, those without any left out
    notes: tuple[str, ...] = ()  # for the user: what could not be measured
    absent: Mapping[str, float] = field(default_factory=dict)  # slot-seconds of the window before joining or after loss
    gone: frozenset[str] = frozenset()  # workers that no longer take part at its end
    peak_rss_nbytes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # worker -> stage -> bytes

    @property
    def worker_seconds(self) -> float:
        """All available worker-seconds: a worker that joined late, or was lost, had fewer."""
        return sum(self.offered(worker) for worker in self.slots)

    def offered(self, worker: str) -> float:
        """The slot-seconds of one worker."""
        return self.seconds * self.slots[worker] - self.absent.get(worker, 0.0)

    @property
    def spent(self) -> StageTime:
        return sum(self.workers.values(), StageTime())

    @property
    def remainder(self) -> float:
        """Worker-seconds that are not accounted for; below 0 where more was measured than was available."""
        return self.worker_seconds - self.spent.total

    def shares(self) -> dict[str, float]:
        """Shares of all worker-seconds, by kind; with the remainder they sum to 1."""
        whole, spent = max(self.worker_seconds, 1e-9), self.spent
        return {kind: getattr(spent, kind) / whole for kind in KINDS} | {"remainder": self.remainder / whole}

    def extend_idle(self, seconds: float, stage: str) -> "Account":
        """The account extended by this many seconds without a task on any worker: the client was at `stage`."""
        here = {name: slots for name, slots in self.slots.items() if name not in self.gone}
        idle = {name: StageTime(idle=seconds * slots) for name, slots in here.items()}
        stages = {stage: sum(idle.values(), StageTime())}
        return self.concat(Account(seconds, here, idle, stages, gone=self.gone))

    def concat(self, after: "Account") -> "Account":
        """This account and that of the following time, on the same workers or on others, combined."""
        slots = {**self.slots, **after.slots}
        absent = {
            name: sum(
                one.absent.get(name, 0.0) if name in one.slots else one.seconds * slots[name] for one in (self, after)
            )
            for name in slots
        }
        return Account(
            seconds=self.seconds + after.seconds,
            slots=slots,
            workers=_sum_of(self.workers, after.workers),
            stages=_ordered(_sum_of(self.stages, after.stages)),
            notes=tuple(dict.fromkeys((*self.notes, *after.notes))),
            absent={name: seconds for name, seconds in absent.items() if seconds > 0},
            gone=after.gone | (slots.keys() - after.slots.keys()),
            peak_rss_nbytes={
                name: _largest(self.peak_rss_nbytes.get(name, {}), after.peak_rss_nbytes.get(name, {}))
                for name in slots
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """A dict of JSON values, for metrics.json and `--json`."""

        def plain(spent: StageTime) -> dict[str, float]:
            return {kind: getattr(spent, kind) for kind in KINDS}

        return {
            "seconds": self.seconds,
            "worker_seconds": self.worker_seconds,
            **plain(self.spent),
            "remainder": self.remainder,
            "shares": self.shares(),
            "stages": {stage: plain(spent) for stage, spent in self.stages.items()},
            "workers": {
                worker: {
                    "slots": self.slots[worker],
                    "worker_seconds": self.offered(worker),
                    **plain(spent),
                    "peak_rss_nbytes": dict(self.peak_rss_nbytes.get(worker, {})),
                }
                for worker, spent in self.workers.items()
            },
            "notes": list(self.notes),
        }


def account(
    readings: Sequence[WorkerReading],
    seconds: float,
    client: Mapping[str, float],
    rounds: Mapping[str, Rounds] | None,
    unread: Sequence[MissingReading] = (),
) -> Account:
    """The account of a window of `seconds` on the client's clock, with the same workers from its start.

    `client`: seconds the client spent on each of its stages, within the window.  `rounds`: by the worker's name; None
    where they were aborted, before the meter reports anything.  Where they are missing (see `watch.rounds_of`), the
    rounds are split by CPU time alone.  `unread`: the workers without a reading.
    """
    longest: dict[str, float] = {}
    for reading in readings:
        for tasks in reading.tasks:
            longest[tasks.prefix] = max(longest.get(tasks.prefix, 0.0), tasks.seconds)
    idle_by_stage = _clients_turn(readings, client, longest)
    workers, stages = {}, dict.fromkeys(STAGES, StageTime())
    for reading in readings:
        mine = _in_tasks(reading, (rounds or {}).get(reading.worker))
        waits = _waits(reading, longest)
        idle = reading.free - sum(waits.values())
        entries = [*mine, *((stage, StageTime(wait=wait)) for stage, wait in waits.items())]
        entries += [(stage, StageTime(idle=idle * share)) for stage, share in idle_by_stage.items()]
        workers[reading.worker] = sum((spent for _, spent in entries), StageTime())
        for stage, spent in entries:
            stages[stage] += spent
    made = Account(
        seconds=seconds,
        slots={reading.worker: reading.slots for reading in readings},
        workers=workers,
        stages=_ordered(stages),
        notes=tuple(_notes(readings, rounds)),
        peak_rss_nbytes={reading.worker: _by_stage(reading.peak_rss_nbytes) for reading in readings},
    )
    return _with_unread(made, unread) if unread else made


def _with_unread(made: Account, unread: Sequence[MissingReading]) -> Account:
    """Adds the unread workers: their time counts as "other", in the client's stages of that time."""
    workers, stages = dict(made.workers), dict(made.stages)
    for worker in unread:
        offered = worker.seconds * worker.slots
        workers[worker.worker] = StageTime(other=offered)
        for stage, share in _shares_of_stages(worker.client).items():
            stages[stage] = stages.get(stage, StageTime()) + StageTime(other=offered * share)
    lost = ", ".join(sorted(worker.worker for worker in unread if worker.lost))
    others = ", ".join(sorted(worker.worker for worker in unread if not worker.lost))
    notes = [f"what worker {lost} did before it was lost counts as other"] if lost else []
    notes += [f"what worker {others} did could not be read and counts as other"] if others else []
    return replace(
        made,
        slots={**made.slots, **{worker.worker: worker.slots for worker in unread}},
        workers=workers,
        stages=_ordered(stages),
        notes=(*made.notes, *notes),
        absent={worker.worker: max(0.0, made.seconds - worker.seconds) * worker.slots for worker in unread},
        gone=frozenset(worker.worker for worker in unread if worker.lost),
    )


def _in_tasks(reading: WorkerReading, rounds: Rounds | None) -> list[tuple[str, StageTime]]:
    """(stage, slot-seconds) of all activity that kept a slot of this worker from being free."""
    found = []
    for part in reading.parts:
        stage = STAGE_OF_PART.get(part.name, part.name)
        found.append((stage, _spent_on(part, reading.slots, rounds)))
    found.append(("scheduling", StageTime(transfer=reading.transfer)))
    if reading.others > 0:  # Dask's digests do not separate them from ours
        return [*found, ("others", StageTime(other=reading.others))]
    narrow = [part for part in reading.parts if part.name not in MULTITHREADED]
    off_cpu = sum(part.seconds - part.cpu_seconds for part in narrow)
    outside = sum(part.seconds for part in reading.parts if part.name in MULTITHREADED)
    unseen = StageTime(
        useful=max(0.0, reading.cpu - sum(part.cpu_seconds for part in narrow)),
        other=max(0.0, reading.off_cpu - off_cpu) + max(0.0, reading.wide - outside) * reading.slots,
    )
    return [*found, ("scheduling", unseen + StageTime(other=reading.overhead))]


def _spent_on(part: TimeSlice, slots: int, rounds: Rounds | None) -> StageTime:
    """Slot-seconds of one part of the tasks."""
    width = slots if part.name in MULTITHREADED else 1
    if part.name == "bootstrap" or part.name == "meter":  # communicator and meter: not useful work
        return StageTime(other=part.seconds * width)
    if part.name == "rounds" and rounds is not None:
        around = max(0.0, part.seconds - rounds.seconds)  # before the first and after the last
        other = rounds.other + around
        return StageTime(rounds.useful * width, rounds.transfer * width, rounds.wait * width, other * width)
    computed = part.process_seconds if width > 1 else part.cpu_seconds
    useful = min(computed, part.seconds * width)
    return StageTime(useful=useful, other=part.seconds * width - useful)


def _waits(reading: WorkerReading, longest: Mapping[str, float]) -> dict[str, float]:
    """Stage -> slot-seconds in which this worker had less to do than the one that took longest; at most its free
    time.
    """
    busy = {tasks.prefix: tasks.busy for tasks in reading.tasks}
    waits: dict[str, float] = {}
    for prefix, seconds in longest.items():
        stage = _stage_of_client(STAGE_BY_TASK_PREFIX.get(prefix, ""))
        waits[stage] = waits.get(stage, 0.0) + max(0.0, seconds * reading.slots - busy.get(prefix, 0.0))
    whole = sum(waits.values())
    scale = min(1.0, reading.free / whole) if whole > 0 else 0.0
    return {stage: wait * scale for stage, wait in waits.items()}


def _clients_turn(
    readings: Sequence[WorkerReading], client: Mapping[str, float], longest: Mapping[str, float]
) -> dict[str, float]:
    """Stage -> its share of all idle time.

    The idle time is measured on the workers.  Its stages follow from the client's clock: the remaining time of
    each of its stages beyond the tasks that took longest.
    """
    left = dict(client)
    for prefix, seconds in longest.items():
        stage = STAGE_BY_TASK_PREFIX.get(prefix, "")
        left[stage] = max(0.0, left.get(stage, 0.0) - seconds)
    return _shares_of_stages(left)


def _shares_of_stages(client: Mapping[str, float]) -> dict[str, float]:
    """The client's seconds in its stages, as shares of the account's stages."""
    shares: dict[str, float] = {}
    for stage, seconds in client.items():
        shares[_stage_of_client(stage)] = shares.get(_stage_of_client(stage), 0.0) + seconds
    whole = sum(shares.values())
    return {stage: seconds / whole for stage, seconds in shares.items()} if whole > 0 else {"scheduling": 1.0}


def _stage_of_client(stage: str) -> str:
    known = STAGE_OF_CLIENT.get(stage, stage)
    return known if known in STAGES else "scheduling"


def _notes(readings: Sequence[WorkerReading], rounds: Mapping[str, Rounds] | None) -> list[str]:
    notes = []
    if any(reading.others > 0 for reading in readings):
        notes.append(
            "tasks of other clients ran on these workers: Dask's own time for this run cannot be separated from its time for theirs"
        )
    boosted = {reading.worker for reading in readings if any(part.name == "rounds" for part in reading.parts)}
    if rounds is None and boosted:
        notes.append("interrupted rounds are split by CPU time alone")
    elif rounds is not None and boosted - rounds.keys():
        notes.append("the meter could not split the rounds: transfer and waiting in them are not separated from other")
    return notes


def _by_stage(peaks: Mapping[str, int]) -> dict[str, int]:
    """The largest peak of the parts of each stage."""
    found: dict[str, int] = {}
    for part, nbytes in peaks.items():
        found = _largest(found, {STAGE_OF_PART.get(part, part): nbytes})
    return found


def _largest(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """The larger number of each name; in the order of the stages."""
    return {stage: max(one.get(stage, 0), other.get(stage, 0)) for stage in STAGES if stage in one or stage in other}


def _sum_of(one: Mapping[str, StageTime], other: Mapping[str, StageTime]) -> dict[str, StageTime]:
    return {
        name: one.get(name, StageTime()) + other.get(name, StageTime()) for name in (*one, *(other.keys() - one.keys()))
    }


def _ordered(stages: Mapping[str, StageTime]) -> dict[str, StageTime]:
    return {stage: stages[stage] for stage in STAGES if stage in stages and stages[stage].total > 0}


def sentence(account: Mapping[str, Any]) -> str:
    """An account (`Account.to_dict()`) in one line, with its notes.

    >>> shares = {"useful": 0.71, "transfer": 0.04, "wait": 0.03, "other": 0.09, "idle": 0.12, "remainder": 0.01}
    >>> sentence({"shares": shares, "worker_seconds": 37.2, "stages": {}, "notes": []})
    'where the 37 worker-seconds went: 71 % useful, 4 % transfer, 3 % waiting, 9 % other, 12 % idle (1 % unexplained)'
    """
    shares, seconds = account["shares"], account["worker_seconds"]

    def percent(kind: str) -> str:
        return f"{abs(100 * shares[kind]):.0f} %"

    other = other_parts(account)
    kinds = ", ".join(
        f"{percent(kind)} {'waiting' if kind == 'wait' else kind}"
        + (f" ({other})" if kind == "other" and other else "")
        for kind in KINDS
    )
    left = f"{percent('remainder')} {'counted twice' if shares['remainder'] < -0.005 else 'unexplained'}"
    said = "; ".join([left, *account["notes"]])
    return f"where the {seconds:,.{0 if seconds >= 10 else 1}f} worker-seconds went: {kinds} ({said})"
