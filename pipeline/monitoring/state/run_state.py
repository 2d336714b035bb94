"""Builds the state of one run from its events: progress, metrics, workers and incidents."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from pipeline.events import types
from pipeline.monitoring.state import bounds
from pipeline.monitoring.state.bounds import keep, last_metrics, short
from pipeline.monitoring.state.metric_history import MetricHistory
from pipeline.monitoring.state.naming import parted
from pipeline.monitoring.state.restarts import Restarts
from pipeline.monitoring.state.stages import Stage, Stages, Turns
from pipeline.monitoring.state.throughput import RoundRate
from pipeline.monitoring.state.worker_state import WorkerState

ALARM = "alarm: "  # prefix of an alarm's note
State = Literal["running", "finished", "failed"]


class Incident(NamedTuple):
    """An interruption of a run, or its continuation afterwards."""

    time: float  # seconds since the epoch
    text: str
    kind: str  # the event's name; "Note": an alarm
    worker: str  # "" where it concerns no worker


class RunState:
    """The state shown of one run; times are seconds since the epoch."""

    def __init__(self, name: str, *, recorded: bool = False) -> None:
        self.name = name  # its id
        self.recorded = recorded  # from a file, which may end before the run
        self.verb = ""
        self.state: State = "running"
        self.started = 0.0  # time of the oldest event
        self.ended: float | None = None
        self.heard = 0.0  # time of the youngest event
        self.changes = 0  # version counter: unchanged means no redraw
        self.asked: Mapping[str, str] = {}
        self.planned: types.Planned | None = None
        self.rounds = 0  # requested
        self.round = 0  # reached; falls back where the run starts again from a checkpoint
        self.round_at = 0.0
        self.pace = RoundRate()
        self.best_round = 0
        self.best: float | None = None
        self.rows_per_second: float | None = None
        self.places: tuple[types.Place, ...] = ()  # by rank
        self.device = ""  # "cpu" or "cuda"; "" until workers are placed
        self.workers: dict[str, WorkerState] = {}
        self.incidents: list[Incident] = []  # by time
        self.notes: list[tuple[float, str]] = []
        self.checkpoint: types.Checkpoint | None = None
        self.metrics: Mapping[str, float] = {}  # of the exact evaluation
        self.path = ""  # of the model
        self.message = ""  # why it failed
        self.unread = ""  # why reading its file stopped
        self._stages = Stages()
        self._latest: dict[str, float] = {}  # time of the youngest event of each sort
        self._measured = MetricHistory()
        self._failures = Restarts()

    # Derived values

    @property
    def curve(self) -> Mapping[int, Mapping[str, float]]:
        """Metrics by round, ascending; of a long run a sample of rounds, always with the best and the last."""
        return self._measured.curve

    @property
    def metric_names(self) -> Sequence[str]:
        """All known metrics; not every round has each of them."""
        return self._measured.names

    @property
    def measured(self) -> Mapping[str, float]:
        """The latest value of each metric."""
        return self._measured.latest

    @property
    def deciding(self) -> str:
        """Name of the metric that decides early stopping; "" where no metric is measured."""
        return self._measured.deciding

    @property
    def restarts(self) -> int:
        """How often it continued after a failure."""
        return self._failures.count

    @property
    def stages(self) -> dict[str, Stage]:
        """The known stages, in order."""
        return self._stages.seen(self._turns)

    @property
    def current_stage(self) -> str:
        """The current stage; "" where there is none, or it is unknown."""
        return self._stages.going(self._turns)

    @property
    def interrupted(self) -> bool:
        """Whether a worker was lost and the run has not continued since."""
        return self._stages.interrupted(self._turns)

    @property
    def recovering(self) -> bool:
        """Whether lost work is redone before the rounds continue."""
        return "rounds" in self._stages and self.current_stage not in ("", "rounds", "evaluate")

    @property
    def stops_early(self) -> bool:
        """Whether the rounds may end before the last requested one; otherwise the model uses the last round, not the
        best.
        """
        return self.asked.get("training.early_stopping") != "0" and parted(self.deciding)[0] != "train"

    @property
    def patience_left(self) -> int | None:
        """Rounds without improvement until early stopping; None: no early stopping, or unknown."""
        asked = self.asked.get("training.early_stopping", "")
        if not (asked.isdecimal() and self.stops_early and self.best_round):
            return None
        return max(0, int(asked) - (self.round - self.best_round))

    @property
    def eta(self) -> tuple[float, float, float] | None:
        """Seconds from the last round to the last requested one: low, middle, high; None if unknown.

        Early stopping may end the rounds before that, and does when no patience is left.
        """
        left = self.rounds - self.round
        if left < 0 or not self.rounds or self.rounds_ended or self.patience_left == 0:
            return None
        return self.pace.seconds_of(left)

    @property
    def rounds_per_second(self) -> float | None:
        """Of the last rounds."""
        return self.pace.rounds_per_second

    @property
    def rounds_ended(self) -> bool:
        """Whether a later stage than the rounds has begun, or the run has ended."""
        return self.state != "running" or "Evaluated" in self._latest or "evaluate" in self._stages

    @property
    def training(self) -> list[WorkerState]:
        """The workers that take part now, by rank; all known workers where ranks are unknown.

        After a restart, until workers are placed, the earlier workers represent their replacements.
        """
        if not self.places:
            return [worker for worker in self.workers.values() if not worker.away]
        placed = (self.workers.get(place.worker) for place in self.places)
        return [worker for worker in placed if worker is not None and not worker.missing]

    @property
    def missing(self) -> list[str]:
        """Names of the lost workers that have not been replaced; none where the run has ended."""
        return [worker.name for worker in self.workers.values() if worker.missing] if self.state == "running" else []

    @property
    def _turns(self) -> Turns:
        return Turns(
            now=self.heard, running=self.state == "running", lost=self._latest.get("lost", 0.0),
            restarted=self._latest.get("Restarted", 0.0), round=self.round, rounds=self.rounds,
            rounds_ended=self.rounds_ended and self.state != "failed",
        )  # fmt: skip

    # Events

    def apply(self, event: types.Event) -> None:
        """Applies the event."""
        self.changes += 1
        self.started = min(self.started or event.time, event.time)
        self.heard = max(self.heard, event.time)
        self._failures.take(event)
        match event:
            case types.WorkerRounds():
                self._worker(event.worker, event.time - event.seconds).take(event)
            case types.RoundDone():
                self._round(event)
            case types.FragmentDone(stage=stage, done=done, total=total):
                self._stages.counted(stage, event, done, total)
                self._end_with_verb()
            case types.StatisticsDone(seconds=seconds):
                self._stages.ended("statistics", event, seconds)
            case types.BlocksDone(seconds=seconds):
                self._stages.ended("blocks", event, seconds)
            case types.MatrixDone(seconds=seconds):
                self._stages.ended("matrix", event, seconds)
            case types.Placed():
                self._place(event)
            case types.Note(message=message):
                if message.startswith(ALARM):
                    self._incident(event, short(message))
                elif (note := (event.time, short(message))) not in self.notes:
                    keep(self.notes, note, bounds.NOTES)
            case (
                types.Started()
                | types.JobResolved()
                | types.Planned()
                | types.Checkpoint()
                | types.Evaluated()
                | types.Saved()
                | types.Failed()
            ):
                if self._younger(type(event).__name__, event):
                    self._set(event)
            case _:
                self._interrupted(event)

    def read_no_further(self, why: str) -> None:
        """Marks its file as unreadable from here: later events are unknown."""
        self.changes += 1
        self.unread = short(why)

    def _set(self, event: types.Event) -> None:
        match event:
            case types.Started(verb=verb):
                self.verb = short(verb)
                self._end_with_verb()
            case types.JobResolved(settings=settings):
                self.asked = {short(key): short(value) for key, value in [*settings.items()][: bounds.SETTINGS]}
            case types.Planned():
                self.planned = event
            case types.Checkpoint():
                self.checkpoint = event
            case types.Evaluated(metrics=metrics, seconds=seconds):
                self.metrics = last_metrics(metrics)
                self._stages.ended("evaluate", event, seconds)
                self._end_with_verb()
            case types.Saved(path=path):
                self.path = short(path)
                self._close("finished", event.time)
            case types.Failed(message=message):
                self.message = short(message)
                self._incident(event, f"failed: {self.message}")
                self._close("failed", event.time)

    def _round(self, event: types.RoundDone) -> None:
        if self._younger("round", event):
            self.rounds, self.round, self.round_at = event.rounds, event.round, event.time
            self.best_round, self.best = event.best_round, event.best
            if event.rows_per_second > 0:
                self.rows_per_second = event.rows_per_second
            self.pace.goes_on(event.time, event.round, event.rows_per_second)
        self.pace.put(event.time, event.round)
        self._measured.take(event, self.best_round)
        if self.best is None and self.best_round in self.curve:
            self.best = next(reversed([*self.curve[self.best_round].values()]), None)
        self._stages.heard("rounds", event)

    def _place(self, event: types.Placed) -> None:
        self._stages.heard("rounds", event)
        if self._younger("Placed", event):
            self.places, self.device = event.workers[: bounds.WORKERS], event.device
            for place in self.places:
                worker = self._worker(place.worker, event.time)
                worker.place = place
                worker.there(event.time)

    def _interrupted(self, event: types.Event) -> None:
        """Handles workers lost, waited for, joined; the run restarted; a fragment left out."""
        if isinstance(event, types.Skipped):
            text: str | None = f"fragment {event.fragment} left out: {event.reason}"
        else:
            text = types.incident(event)
        if text is None or not self._incident(event, short(text)):
            return
        match event:
            case types.WorkerLost(worker=name):
                self._worker(name, event.time).gone(event.time)
                self._younger("lost", event)
            case types.Waiting():
                self._younger("lost", event)
            case types.WorkerJoined(worker=name):
                self._worker(name, event.time).there(event.time)
            case types.Restarted(round=number, workers=workers):
                if workers >= len(self.places):  # which workers these are is known once they are placed
                    for place in self.places:
                        self._worker(place.worker, event.time).replaced(event.time)
                self._restarted(event, number)

    def _restarted(self, event: types.Event, number: int) -> None:
        self._measured.begins_again(event.time, number)
        self._younger("Restarted", event)
        if self._younger("round", event):
            self.round, self.round_at = number, event.time
            if self.best_round > number:
                self.best_round, self.best = 0, None
            self.pace.begins_again()

    def _incident(self, event: types.Event, text: str) -> bool:
        """Adds the incident; whether it is new."""
        told = Incident(event.time, text, type(event).__name__, str(getattr(event, "worker", "")))
        if told in self.incidents:
            return False
        keep(self.incidents, told, bounds.INCIDENTS)
        return True

    def _end_with_verb(self) -> None:
        """Ends runs of verbs that save no model, with their figures or with the last fragment."""
        predicted = self._stages.complete("predict")
        if self.verb == "evaluate" and "Evaluated" in self._latest:
            self._close("finished", self._latest["Evaluated"])
        elif self.verb == "predict" and predicted is not None:
            self._close("finished", predicted)

    def _close(self, state: State, moment: float) -> None:
        if self.ended is None or moment >= self.ended:
            self.state, self.ended = state, moment

    def _worker(self, name: str, moment: float) -> WorkerState:
        if name not in self.workers and len(self.workers) >= bounds.WORKERS:
            placed = {place.worker for place in self.places}
            others = [worker for worker in self.workers.values() if worker.name not in placed]
            del self.workers[min(others or self.workers.values(), key=lambda worker: worker.heard).name]
        return self.workers.setdefault(name, WorkerState(name, since=moment))

    def _younger(self, what: str, event: types.Event) -> bool:
        """Whether no younger event about this has arrived; remembers the event's time."""
        if event.time < self._latest.get(what, 0.0):
            return False
        self._latest[what] = event.time
        return True
