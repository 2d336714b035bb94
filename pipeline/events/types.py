"""Defines the events that a run emits.

Training emits them; progress bars, the dashboard, the report and `--json` consume them.  Every event is a
frozen dataclass of plain values, so that it crosses processes as a dict (`encode`, `decode`).

| event          | emitted when                       | fields (units)                                          |
|----------------|------------------------------------|---------------------------------------------------------|
| Started        | the verb begins                    | verb, run                                               |
| JobResolved    | the job is complete                | settings                                                |
| Planned        | before the features are read       | rows, features, fragments, workers, threads, nbytes, note, seconds, round_seconds, round_compute |
| FragmentDone   | a pass has finished one fragment   | stage, done, total, rows                                |
| StatisticsDone | the first pass has ended           | rows, seconds                                           |
| BlocksDone     | the second pass has ended          | rows, nbytes, seconds                                   |
| MatrixDone     | the quantised matrices are built   | nbytes, seconds                                         |
| Placed         | rounds begin, or begin again       | workers, device                                          |
| RoundDone      | a boosting round has ended         | round, rounds, metrics, best_round, best, rows_per_second |
| WorkerRounds   | a worker has boosted some rounds   | worker, first, round, seconds, cpu_seconds, runqueue_seconds, bytes_sent, memory_nbytes, gpu_memory_nbytes, gpu_utilisation |
| Checkpoint     | a checkpoint was written           | round, path, seconds                                    |
| WorkerLost     | a worker died or hung              | worker, stage, round, reason                            |
| Waiting        | the run waits for a lost worker    | workers, expected, seconds                              |
| WorkerJoined   | a new worker takes part from now on | worker                                                 |
| Restarted      | training continues                 | round, workers                                          |
| Skipped        | a fragment that cannot be read is left out | fragment, reason                                |
| Evaluated      | the exact evaluation has ended     | metrics, seconds                                        |
| Saved          | the model can be loaded; its report, if one is asked for, follows | path, sha256             |
| Failed         | the verb ends without a result     | message                                                 |
| Note           | something the user should know     | message                                                 |
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.events.fields import MESSAGES, checked
from pipeline.formatting import without_secrets

VERSION = 1
LONGEST_RUN = 100  # characters of a run's id, which has 12


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event of a run; `time` is seconds since the epoch, by the clock of the process that emitted it."""

    time: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        """Removes passwords and queries from URLs: events are shown, recorded and kept by the scheduler."""
        for name in MESSAGES:
            value = getattr(self, name, None)
            if isinstance(value, str) and "://" in value:
                object.__setattr__(self, name, without_secrets(value))


EventHandler = Callable[[Event], None]


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    verb: str
    run: str


@dataclass(frozen=True, kw_only=True)
class JobResolved(Event):
    settings: Mapping[str, str]  # a few fields of the job, by their names, in display order


@dataclass(frozen=True, kw_only=True)
class Planned(Event):
    rows: int | None  # None where the format has no counts (CSV)
    features: int
    fragments: int
    workers: int
    threads: int  # per worker
    nbytes: int  # estimated peak of all processes
    note: str = ""
    seconds: tuple[float, ...] = ()  # of the run: low, expected, high; none: not planned
    round_seconds: float = 0.0  # of a round, expected
    round_compute: tuple[float, ...] = ()  # CPU seconds of a round on each worker, the most first


@dataclass(frozen=True, kw_only=True)
class FragmentDone(Event):
    stage: str  # "survey", "statistics", "blocks", "predict"
    done: int
    total: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class StatisticsDone(Event):
    rows: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class BlocksDone(Event):
    rows: int
    nbytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class MatrixDone(Event):
    nbytes: int
    seconds: float


@dataclass(frozen=True)
class Place:
    """One worker of a training."""

    worker: str  # its name
    rows: int  # training and validation
    share: float  # of all rows
    capability: float  # of all workers' together
    threads: int
    memory_limit_nbytes: int  # 0: none
    planned_nbytes: int  # its expected peak


@dataclass(frozen=True, kw_only=True)
class Placed(Event):
    workers: tuple[Place, ...]  # by rank
    device: str = "cpu"  # or "cuda"


@dataclass(frozen=True, kw_only=True)
class RoundDone(Event):
    round: int  # counted from 1
    rounds: int
    metrics: Mapping[str, float]  # "validation.logloss" -> value; the last one decides early stopping
    best_round: int
    best: float | None = None  # value of the deciding metric in the best round; None: no metric is measured
    rows_per_second: float  # boosted since the previous RoundDone; 0: unknown


@dataclass(frozen=True, kw_only=True)
class WorkerRounds(Event):
    """A worker's statistics of the rounds `first` to `round`: every few seconds at most, and rarely where there are
    many workers.
    """

    worker: str  # its name
    first: int
    round: int
    seconds: float  # wall clock of these rounds
    cpu_seconds: float  # of the training thread
    runqueue_seconds: float  # ready, without a core
    bytes_sent: int | None  # by growing trees; None: the system does not report it
    memory_nbytes: int  # resident, current
    gpu_memory_nbytes: int | None = None  # None: no GPU
    gpu_utilisation: float | None = None  # 0 to 1


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Event):
    round: int
    path: str  # of the model folder to pass to --resume
    seconds: float  # to fetch and write it


@dataclass(frozen=True, kw_only=True)
class WorkerLost(Event):
    worker: str  # its name
    stage: str  # "statistics", "blocks", "matrix", "rounds", "evaluate"
    round: int  # the last known one; 0 before the first
    reason: str


@dataclass(frozen=True, kw_only=True)
class Waiting(Event):
    workers: int  # remaining workers
    expected: int
    seconds: float  # the longest wait


@dataclass(frozen=True, kw_only=True)
class WorkerJoined(Event):
    worker: str  # its name


@dataclass(frozen=True, kw_only=True)
class Restarted(Event):
    round: int  # the next round is the first to be boosted again
    workers: int


@dataclass(frozen=True, kw_only=True)
class Skipped(Event):
    fragment: int
    reason: str  # names the file and the place in it


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    message: str

    @classmethod
    def of(cls, error: BaseException) -> "Failed":
        """Returns the event of a run that ends with this error; an error without a text gives its class's name."""
        return cls(message=str(error) or type(error).__name__)


@dataclass(frozen=True, kw_only=True)
class Note(Event):
    message: str


WIRE_NAMES: dict[type[Event], str] = {JobResolved: "Asked"}  # as written, where that is not the name of the class


def wire_name(kind: type[Event]) -> str:
    """The name of a kind of event in messages and recorded files."""
    return WIRE_NAMES.get(kind, kind.__name__)


KINDS: dict[str, type[Event]] = {
    wire_name(kind): kind
    for kind in (
        Started, JobResolved, Planned, FragmentDone, StatisticsDone, BlocksDone, MatrixDone, Placed, RoundDone, WorkerRounds,
        Checkpoint, WorkerLost, Waiting, WorkerJoined, Restarted, Skipped, Evaluated, Saved, Failed, Note,
    )
}  # fmt: skip


def encode(event: Event) -> dict[str, Any]:
    """The event as a dict of plain values, with its name and the vocabulary's version."""
    return {"event": wire_name(type(event)), "version": VERSION, **dataclasses.asdict(event)}


def decode(message: Any) -> Event:
    """The event encoded in a dict of `encode`; ValueError for another version, an unknown name, or fields that are not
    its own.

    The message may come from any client: types and lengths are checked, long messages are truncated.
    """
    name = message.get("event") if isinstance(message, Mapping) else None
    if not isinstance(name, str) or name not in KINDS or message.get("version") != VERSION:
        version = message.get("version") if isinstance(message, Mapping) else None
        raise ValueError(f"not an event of version {VERSION}: {name!r:.200} of version {version!r:.20}")
    fields = {key: value for key, value in message.items() if key not in ("event", "version")}
    try:
        return KINDS[name](**checked(KINDS[name], fields))
    except TypeError:  # a field is missing
        raise ValueError(f"not the fields of {name}: {', '.join(map(str, fields))}") from None


def run_id(run: object) -> str:
    """The id of a run in a message from any client; ValueError where it is invalid."""
    if not isinstance(run, str) or not 0 < len(run) <= LONGEST_RUN:
        raise ValueError(f"not the id of a run: expected a text of at most {LONGEST_RUN} characters")
    return run


def incident(event: Event) -> str | None:
    """An interruption of a run or its continuation as one line; None for other events.

    >>> incident(WorkerLost(worker="2", stage="rounds", round=137, reason="killed by signal 9"))
    'worker 2 lost at round 137: killed by signal 9'
    >>> incident(Restarted(round=130, workers=1))
    'resuming from round 130 on 1 worker'
    """
    match event:
        case WorkerLost(worker=worker, stage="rounds", round=number, reason=reason):
            return f"worker {worker} lost at round {number}: {reason}"
        case WorkerLost(worker=worker, stage=stage, reason=reason):
            return f"worker {worker} lost in {stage}: {reason}"
        case Waiting(workers=workers, expected=expected, seconds=seconds):
            return f"{workers} of {expected} workers left; waiting up to {seconds:g} s for the others"
        case WorkerJoined(worker=worker):
            return f"worker {worker} takes part from now on"
        case Restarted(round=number, workers=workers):
            begin = f"resuming from round {number}" if number else "starting again"
            return f"{begin} on {workers} worker{'s' * (workers != 1)}"
    return None


def discard(event: Event) -> None:
    """No-op event handler."""
