"""What is known of each run, from its events: what the pages, the metrics and the alarms read.

No Dask and no Bokeh: `Board.take` may be called in a scheduler, in a test or from a recorded file.  Events may come in
any order and more than once: of two that speak of the same thing the younger one (`Event.time`) counts.
"""

import bisect
import itertools
import statistics
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pipeline.events import (
    Asked,
    BlocksDone,
    Checkpoint,
    Evaluated,
    Event,
    Failed,
    FragmentDone,
    MatrixDone,
    Note,
    Place,
    Placed,
    Planned,
    Restarted,
    RoundDone,
    Saved,
    Skipped,
    Started,
    StatisticsDone,
    WorkerJoined,
    WorkerLost,
    WorkerRounds,
    incident,
)

CURVE_POINTS = 2_000  # kept of a run
PACE_MARKS = 60  # rounds whose times tell how fast it goes now
PACE_PIECES = 12  # into which those are cut to see how much the pace varies
WINDOW_SECONDS = 30.0
WINDOWS = 120  # messages kept of a worker
INCIDENTS = 200
NOTES = 200
FINISHED_RUNS = 8
OPEN_RUNS = 24  # whose client may have died without a word
WORKERS = 2_000  # of a run, those that have left among them
METRICS = 64  # of a round
SETTINGS = 50
LONGEST_TEXT = 400  # characters
PASSES = ("survey", "statistics", "blocks", "matrix", "rounds", "evaluate", "predict", "generate")  # in their order

State = Literal["running", "finished", "failed"]


class Stage(NamedTuple):
    """How far a stage has come: fragments, or rounds."""

    done: int
    total: int  # 0: nothing to count
    seconds: float  # so far, or all of it
    ended: bool


class Incident(NamedTuple):
    """One thing that interrupted a run, or went on after that."""

    time: float  # seconds since the epoch
    text: str
    kind: str  # the event's name
    worker: str  # "" where it is nobody's


@dataclass
class Sums:
    """What a worker did in some rounds."""

    rounds: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    runqueue_seconds: float = 0.0
    bytes_sent: int | None = 0  # None: the system does not tell

    def add(self, event: WorkerRounds) -> None:
        self.rounds += max(1, event.round - event.first + 1)
        self.seconds += event.seconds
        self.cpu_seconds += event.cpu_seconds
        self.runqueue_seconds += event.runqueue_seconds
        if self.bytes_sent is not None:
            self.bytes_sent = None if event.bytes_sent is None else self.bytes_sent + event.bytes_sent


@dataclass
class WorkerState:
    """What is known of one worker."""

    name: str
    place: Place | None = None  # what it was given last
    round: int = 0
    heard: float = 0.0  # when its latest rounds ended, seconds since the epoch
    sums: Sums = field(default_factory=Sums)  # since the start
    memory_nbytes: int = 0  # resident, latest
    peak_memory_nbytes: int = 0
    gpu_memory_nbytes: int | None = None
    gpu_utilisation: float | None = None
    lost: int = 0  # how often it died or froze
    lost_at: float = 0.0
    joined_at: float = 0.0  # when it was last given a place, or said to be back
    begins: list[float] = field(default_factory=list)  # when it was first heard of after each loss
    since: float = 0.0  # when it was first heard of
    windows: deque[WorkerRounds] = field(default_factory=deque)  # by time
    _forgotten: float = 0.0  # when the youngest ended that has left the window

    @property
    def away(self) -> bool:
        """It was lost and has not been heard of since."""
        return self.lost_at > max(self.heard, self.joined_at)

    @property
    def window(self) -> Sums:
        """Its rounds of the last 30 s or so."""
        sums = Sums()
        for event in self.windows:
            sums.add(event)
        return sums

    def there(self, moment: float) -> None:
        """It takes part at this moment."""
        self.joined_at = max(self.joined_at, moment)
        if moment > self.lost_at > max(self.begins, default=0.0):
            _keep(self.begins, moment, INCIDENTS)

    def take(self, event: WorkerRounds) -> None:
        """Counts the rounds, unless they have been: what is older than the window counts as such."""
        if event.time <= self._forgotten or event in self.windows:
            return
        self.there(event.time)
        self.sums.add(event)
        self.peak_memory_nbytes = max(self.peak_memory_nbytes, event.memory_nbytes)
        self.windows.append(event)
        if event.time < self.heard:
            self.windows = deque(sorted(self.windows, key=lambda one: one.time))
        else:
            self.heard, self.round = event.time, event.round
            self.memory_nbytes = event.memory_nbytes
            self.gpu_memory_nbytes, self.gpu_utilisation = event.gpu_memory_nbytes, event.gpu_utilisation
        while len(self.windows) > WINDOWS or self.windows[0].time < self.heard - WINDOW_SECONDS:
            self._forgotten = self.windows.popleft().time


class Run:
    """Everything that is shown of one run; times are seconds since the epoch."""

    def __init__(self, name: str) -> None:
        self.name = name  # its id
        self.verb = ""
        self.state: State = "running"
        self.started = 0.0  # the oldest event heard of
        self.ended: float | None = None
        self.heard = 0.0  # the youngest event
        self.changes = 0  # grows with every event: whoever draws need not look where it stands still
        self.asked: Mapping[str, str] = {}
        self.planned: Planned | None = None
        self.rounds = 0  # asked for
        self.round = 0  # reached; falls back where the run starts again from a checkpoint
        self.round_at = 0.0
        self.pace: list[tuple[float, int]] = []  # when rounds ended, and which, by time; of a long run some
        self.best_round = 0
        self.best: float | None = None
        self.rows_per_second: float | None = None
        self.places: tuple[Place, ...] = ()  # by rank
        self.workers: dict[str, WorkerState] = {}
        self.incidents: list[Incident] = []  # by time
        self.notes: list[tuple[float, str]] = []
        self.restarts = 0
        self.checkpoint: Checkpoint | None = None
        self.metrics: Mapping[str, float] = {}  # of the exact evaluation
        self.path = ""  # of the model
        self.message = ""  # why it failed
        self._stages: dict[str, _Stage] = {}
        self._latest: dict[str, float] = {}  # time of the youngest event of each sort
        self._marks: deque[tuple[float, int]] = deque(maxlen=PACE_MARKS)  # (time, round) since the last start
        self._curve: _Points[Mapping[str, float]] = _Points()
        self._metrics: dict[str, None] = {}  # names heard of
        self._restarts: deque[tuple[float, int]] = deque(maxlen=INCIDENTS)  # (time, last round that counts)

    # What is derived

    @property
    def curve(self) -> Mapping[int, Mapping[str, float]]:
        """Metrics by round, ascending; of a long run every so many rounds, the best and the last always."""
        return self._curve.kept

    @property
    def metric_names(self) -> Sequence[str]:
        """All metrics heard of; not every round has each of them."""
        return [*self._metrics]

    @property
    def measured(self) -> Mapping[str, float]:
        """The metrics of the last round that has any."""
        return self.curve[next(reversed(self._curve.kept))] if self.curve else {}

    @property
    def deciding(self) -> str:
        """Name of the metric that decides early stopping: the last one; "" where nothing is measured."""
        return next(reversed(dict(self.measured)), "")

    @property
    def stages(self) -> dict[str, Stage]:
        """The stages heard of, in their order."""
        known = [name for name in PASSES if name in self._stages]
        names = known + [name for name in self._stages if name not in PASSES]
        return {name: self._seen(name, following=names[i + 1 :]) for i, name in enumerate(names)}

    @property
    def eta(self) -> tuple[float, float, float] | None:
        """Seconds from the last round to the last one asked for: low, middle, high; None where there is no telling.

        The seconds a round took are looked at in pieces of the last rounds: the middle is their median, low and high
        are the quickest and the slowest piece but one.  Early stopping may end the rounds before that.
        """
        left = self.rounds - self.round
        if self.state != "running" or left < 0 or not self.rounds or self.rounds_ended:
            return None
        if (pieces := self._pieces()) is None:
            return None
        pieces.sort()
        out = 1 if len(pieces) >= 6 else 0  # one slow piece may be the neighbour's
        return left * pieces[out], left * statistics.median(pieces), left * pieces[-1 - out]

    @property
    def rounds_per_second(self) -> float | None:
        """Of the last rounds."""
        if len(self._marks) < 2:
            return None
        (begin, first), (end, last) = self._marks[0], self._marks[-1]
        return (last - first) / (end - begin) if end > begin and last > first else None

    @property
    def interrupted(self) -> bool:
        """A worker was lost, and no round has ended since."""
        return self.state == "running" and any(
            one.kind in ("WorkerLost", "Waiting") and one.time > max(self.round_at, self._latest.get("Placed", 0.0))
            for one in self.incidents[-10:]
        )

    @property
    def rounds_ended(self) -> bool:
        """Whether what comes after the rounds has begun, or the run has ended."""
        return self.state != "running" or "Evaluated" in self._latest or "evaluate" in self._stages

    @property
    def training(self) -> list[WorkerState]:
        """The workers that take part now, by rank; all that were heard of where ranks are unknown."""
        if not self.places:
            return [worker for worker in self.workers.values() if not worker.away]
        placed = (self.workers.get(place.worker) for place in self.places)
        return [worker for worker in placed if worker is not None and not worker.away]

    def _pieces(self) -> list[float] | None:
        """Seconds a round took in each piece of the last rounds."""
        marks = list(self._marks)
        if len(marks) < 3:
            return None
        size = max(1, -(-(len(marks) - 1) // PACE_PIECES))
        ends = [*marks[:-1:size], marks[-1]]
        pieces = [
            (end - begin) / (last - first)
            for (begin, first), (end, last) in itertools.pairwise(ends)
            if last > first and end >= begin
        ]
        return pieces or None

    def _seen(self, name: str, following: Sequence[str]) -> Stage:
        stage = self._stages[name]
        done, total = stage.done, stage.total
        if name == "rounds":
            done, total = self.round, self.rounds
            ended = self.rounds_ended and self.state != "failed"
        else:
            ended = stage.seconds is not None or 0 < total == done or any(self._stages[one].began for one in following)
        end = stage.last if ended or self.state != "running" else max(stage.last, self.heard)
        seconds = stage.seconds if stage.seconds is not None else max(0.0, end - stage.began)
        return Stage(done, total, seconds, ended)

    # What is heard

    def take(self, event: Event) -> None:
        """Adds what the event says."""
        self.changes += 1
        self.started = min(self.started or event.time, event.time)
        self.heard = max(self.heard, event.time)
        match event:
            case WorkerRounds():
                self._worker(event.worker, event.time - event.seconds).take(event)
            case RoundDone():
                self._round(event)
            case FragmentDone(stage=stage, done=done, total=total):
                self._fragment(event, stage, done, total)
            case StatisticsDone(seconds=seconds):
                self._finish_stage("statistics", event, seconds)
            case BlocksDone(seconds=seconds):
                self._finish_stage("blocks", event, seconds)
            case MatrixDone(seconds=seconds):
                self._finish_stage("matrix", event, seconds)
            case Placed():
                self._place(event)
            case Note(message=message):
                if (note := (event.time, _short(message))) not in self.notes:
                    _keep(self.notes, note, NOTES)
            case Started() | Asked() | Planned() | Checkpoint() | Evaluated() | Saved() | Failed():
                if self._younger(type(event).__name__, event):
                    self._set(event)
            case _:
                self._interrupted(event)

    def _set(self, event: Event) -> None:
        match event:
            case Started(verb=verb):
                self.verb = _short(verb)
                self._end_with_verb()
            case Asked(settings=settings):
                self.asked = {_short(key): _short(value) for key, value in [*settings.items()][:SETTINGS]}
            case Planned():
                self.planned = event
            case Checkpoint():
                self.checkpoint = event
            case Evaluated(metrics=metrics, seconds=seconds):
                self.metrics = _last(metrics)
                self._finish_stage("evaluate", event, seconds)
                self._end_with_verb()
            case Saved(path=path):
                self.path = _short(path)
                self._end("finished", event)
            case Failed(message=message):
                self.message = _short(message)
                self._incident(event, f"failed: {self.message}")
                self._end("failed", event)

    def _round(self, event: RoundDone) -> None:
        if self._younger("round", event):
            self.rounds, self.round, self.round_at = event.rounds, event.round, event.time
            self.best_round, self.best = event.best_round, event.best
            if event.rows_per_second > 0:
                self.rows_per_second = event.rows_per_second
            if not self._marks or event.round > self._marks[-1][1]:
                self._marks.append((event.time, event.round))
        self._mark(event.time, event.round)
        stale = any(event.time < moment and event.round > number for moment, number in self._restarts)
        if event.metrics and not stale:
            self._metrics |= dict.fromkeys([*event.metrics][-METRICS:])
            for name in [*self._metrics][:-METRICS]:
                del self._metrics[name]
            self._curve.put(event.round, event.time, _last(event.metrics), self.best_round)
        if self.best is None and self.best_round in self.curve:
            self.best = next(reversed([*self.curve[self.best_round].values()]), None)
        self._stage("rounds", event)

    def _mark(self, moment: float, number: int) -> None:
        """Adds to the pace; where that has grown too long, every second mark goes."""
        mark = (moment, number)
        place = bisect.bisect_left(self.pace, mark)
        if self.pace[place : place + 1] != [mark]:
            self.pace.insert(place, mark)
        if len(self.pace) > CURVE_POINTS:
            self.pace = [*self.pace[:-1:2], self.pace[-1]]

    def _fragment(self, event: Event, name: str, done: int, total: int) -> None:
        stage = self._stage(name, event)
        if self._younger(f"stage {name}", event):
            stage.done, stage.total = done, total
            if done < total:
                stage.seconds = None  # it is gone through once more, after a restart
        self._end_with_verb()

    def _finish_stage(self, name: str, event: Event, seconds: float) -> None:
        stage = self._stage(name, event)
        stage.began = min(stage.began, event.time - seconds)
        if self._younger(f"end of {name}", event):
            stage.seconds = seconds

    def _stage(self, name: str, event: Event) -> "_Stage":
        stage = self._stages.setdefault(_short(name), _Stage(event.time, event.time))
        stage.began, stage.last = min(stage.began, event.time), max(stage.last, event.time)
        return stage

    def _place(self, event: Placed) -> None:
        self._stage("rounds", event)
        if self._younger("Placed", event):
            self.places = event.workers[:WORKERS]
            for place in self.places:
                worker = self._worker(place.worker, event.time)
                worker.place = place
                worker.there(event.time)

    def _interrupted(self, event: Event) -> None:
        """Workers lost, waited for, joined; the run restarted; a fragment left out."""
        text = _left_out(event) if isinstance(event, Skipped) else incident(event)
        if text is None or not self._incident(event, _short(text)):
            return
        match event:
            case WorkerLost(worker=name):
                worker = self._worker(name, event.time)
                worker.lost, worker.lost_at = worker.lost + 1, max(worker.lost_at, event.time)
            case WorkerJoined(worker=name):
                worker = self._worker(name, event.time)
                worker.there(event.time)
            case Restarted(round=number):
                self.restarts += 1
                self._restarts.append((event.time, number))
                self._curve.forget(event.time, number)
                if self._younger("round", event):
                    self.round, self.round_at = number, event.time
                    self._marks.clear()

    def _incident(self, event: Event, text: str) -> bool:
        """Whether it is new."""
        told = Incident(event.time, text, type(event).__name__, str(getattr(event, "worker", "")))
        if told in self.incidents:
            return False
        _keep(self.incidents, told, INCIDENTS)
        return True

    def _end_with_verb(self) -> None:
        """Verbs that save no model end with their figures, or with the last fragment."""
        predicted = self._stages.get("predict")
        if self.verb == "evaluate" and "Evaluated" in self._latest:
            self._close("finished", self._latest["Evaluated"])
        elif self.verb == "predict" and predicted is not None and 0 < predicted.total == predicted.done:
            self._close("finished", predicted.last)

    def _end(self, state: State, event: Event) -> None:
        self._close(state, event.time)

    def _close(self, state: State, moment: float) -> None:
        if self.ended is None or moment >= self.ended:
            self.state, self.ended = state, moment

    def _worker(self, name: str, moment: float) -> WorkerState:
        if name not in self.workers and len(self.workers) >= WORKERS:
            placed = {place.worker for place in self.places}
            others = [worker for worker in self.workers.values() if worker.name not in placed]
            del self.workers[min(others or self.workers.values(), key=lambda worker: worker.heard).name]
        return self.workers.setdefault(name, WorkerState(name, since=moment))

    def _younger(self, what: str, event: Event) -> bool:
        """Whether nothing younger has been heard of this; remembers it."""
        if event.time < self._latest.get(what, 0.0):
            return False
        self._latest[what] = event.time
        return True


class _Points[T]:
    """Values by round, ascending, `CURVE_POINTS` at most: where there are more, one stays for each `_stride` rounds."""

    def __init__(self) -> None:
        self.kept: dict[int, T] = {}
        self._times: dict[int, float] = {}  # of the events they are from
        self._stride = 1

    def put(self, number: int, time: float, value: T, best: int) -> None:
        """Adds the value of round `number`, unless a younger one is there; the round `best` stays."""
        if time < self._times.get(number, 0.0):
            return
        last = next(reversed(self.kept), number)
        self.kept[number], self._times[number] = value, time
        if number < last:
            self.kept = dict(sorted(self.kept.items()))
        elif last < number and last // self._stride == number // self._stride and last != best:
            del self.kept[last], self._times[last]
        while len(self.kept) > CURVE_POINTS:
            self._stride *= 2
            stay = {*{each // self._stride: each for each in self.kept}.values(), best}  # the last of each stride
            self.kept = {each: kept for each, kept in self.kept.items() if each in stay}
            self._times = {each: self._times[each] for each in self.kept}

    def forget(self, time: float, number: int) -> None:
        """What was heard before `time` of the rounds after `number`: they are boosted again."""
        stay = {each for each in self.kept if each <= number or self._times[each] >= time}
        self.kept = {each: kept for each, kept in self.kept.items() if each in stay}
        self._times = {each: self._times[each] for each in self.kept}


@dataclass
class _Stage:
    began: float
    last: float  # the latest event of it
    done: int = 0
    total: int = 0
    seconds: float | None = None  # as its last event says


class Board:
    """The runs heard of, newest last; the oldest are forgotten."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self._gone: deque[str] = deque(maxlen=1_000)  # forgotten, so that a late event does not bring one back

    def take(self, run: str, event: Event) -> None:
        """Adds an event of the run with this id."""
        if run not in self.runs:
            if run in self._gone:
                return
            self.runs[run] = Run(run)
        self.runs[run].take(event)
        if isinstance(event, (Started, Saved, Failed, Evaluated)) or len(self.runs) > FINISHED_RUNS + OPEN_RUNS:
            self._forget()

    def newest(self) -> Run | None:
        """The run that began last."""
        return max(self.runs.values(), key=lambda run: run.started, default=None)

    def _forget(self) -> None:
        for run in [*self._beyond(open_=False, limit=FINISHED_RUNS), *self._beyond(open_=True, limit=OPEN_RUNS)]:
            del self.runs[run.name]
            self._gone.append(run.name)

    def _beyond(self, *, open_: bool, limit: int) -> Iterator[Run]:
        """Those heard of the longest ago, beyond as many as are kept."""
        runs = [run for run in self.runs.values() if (run.state == "running") == open_]
        yield from sorted(runs, key=lambda run: run.heard)[: max(0, len(runs) - limit)]


def _keep[T: (Incident, tuple[float, str], float)](things: list[T], thing: T, limit: int) -> None:
    """Adds it in order; the oldest goes where there are too many."""
    things.append(thing)
    if len(things) > 1 and things[-2] > thing:
        things.sort()
    del things[: max(0, len(things) - limit)]


def _last(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """The last of very many metrics: the deciding one is among them."""
    return dict([*metrics.items()][-METRICS:])


def _left_out(event: Skipped) -> str:
    return f"fragment {event.fragment} left out: {event.reason}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 4]} ..."
