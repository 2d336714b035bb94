"""Shows the progress of a run on stderr: bars on a terminal, otherwise a line every few seconds."""

import contextlib
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from pipeline.events.types import (
    BlocksDone,
    Checkpoint,
    Event,
    EventHandler,
    FragmentDone,
    MatrixDone,
    Note,
    Placed,
    Planned,
    RoundDone,
    StatisticsDone,
    WorkerRounds,
    discard,
    incident,
)
from pipeline.formatting import escaped, nbytes, number

if TYPE_CHECKING:
    from rich.progress import TaskID

INTERVAL_SECONDS = 5.0  # between two lines of the same stage, without a terminal
NOTE_CHARACTERS = 400  # shown of one note
SUMMED_UP = ("survey", "statistics", "blocks")  # passes whose end has its own event, or needs none


@contextlib.contextmanager
def listening(stream: TextIO | None = None, *, quiet: bool = False) -> Iterator[EventHandler]:
    """An event handler that shows a run on `stream` (stderr): bars if it is a terminal, else lines."""
    stream = stream or sys.stderr
    if quiet:
        yield discard
    elif stream.isatty():
        with Bars(stream) as bars:
            yield bars
    else:
        yield Lines(lambda line: print(line, file=stream, flush=True))


def told(event: Event) -> str | None:
    """The line for an event that is printed at once; None for events that are shown as progress."""
    match event:
        case Planned():
            return _plan_line(event)
        case StatisticsDone(rows=rows, seconds=seconds):
            return f"statistics: {number(rows)} rows in {seconds:.1f} s"
        case BlocksDone(rows=rows, nbytes=size, seconds=seconds):
            return f"blocks: {number(rows)} rows, {nbytes(size)}, in {seconds:.1f} s"
        case MatrixDone(nbytes=size, seconds=seconds):
            return f"matrix: {nbytes(size)} in {seconds:.1f} s"
        case Note(message=message):
            return "note: " + textwrap.shorten(message, NOTE_CHARACTERS, placeholder=" ... (all of it with --json)")
    return incident(event)


def _plan_line(plan: Planned) -> str:
    """The line for the plan.

    >>> _plan_line(Planned(rows=2_000_000, features=28, fragments=16, workers=1, threads=2, nbytes=990_000_000))
    'plan: 2,000,000 rows, 28 features, 16 fragments; 1 worker x 2 threads; about 990 MB of memory'
    """
    rows = "rows not counted yet" if plan.rows is None else _counted(plan.rows, "row")
    size = f"{rows}, {_counted(plan.features, 'feature')}, {_counted(plan.fragments, 'fragment')}"
    line = f"plan: {size}; {_counted(plan.workers, 'worker')} x {_counted(plan.threads, 'thread')}"
    return f"{line}; about {nbytes(plan.nbytes)} of memory" + (f"; {plan.note}" if plan.note else "")


def _counted(many: int, what: str) -> str:
    """
    >>> _counted(1, "worker"), _counted(1_200, "row")
    ('1 worker', '1,200 rows')
    """
    return f"{number(many)} {what}" + "s" * (many != 1)


def _metrics_line(event: RoundDone) -> str:
    """The round's metrics; the best round only if it is an earlier one: without early stopping the last round is kept.

    >>> _metrics_line(RoundDone(round=3, rounds=9, metrics={"train.auc": 0.75}, best_round=2, rows_per_second=2e6))
    'train.auc 0.75, best round 2, 2,000,000 rows/s'
    """
    said = [f"{name} {number(value)}" for name, value in event.metrics.items()]
    said += [f"best round {event.best_round}"] if event.best_round < event.round else []
    return ", ".join([*said, f"{number(round(event.rows_per_second))} rows/s"])


def deciding_metric(event: RoundDone) -> str:
    """The metric that decides early stopping, which is the last one, and the best round if it is an earlier round."""
    if not event.metrics:  # without validation rows only some rounds are measured
        return ""
    name, value = list(event.metrics.items())[-1]
    best = f", best {event.best_round}" if event.best_round < event.round else ""
    return f"{name} {number(value)}{best}"


class Lines:
    """One line every few seconds; the last state of a stage is never left out."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write: Callable[[str], None] = lambda line: write(escaped(line))
        self._clock = clock
        self._lock = threading.Lock()  # events of workers arrive in the client's own thread
        self._stage = ""
        self._began = self._written = 0.0
        self._first_round = 0
        self._pending: str | None = None

    def __call__(self, event: Event) -> None:
        with self._lock:
            match event:
                case FragmentDone(stage=stage, done=done, total=total):
                    ended = done == total and stage not in SUMMED_UP
                    self._show(stage, f"{stage}: {done}/{total} fragments", final=ended)
                case RoundDone(round=round_, rounds=rounds):
                    eta = self._eta(event)
                    self._show(
                        "rounds", f"round {round_}/{rounds}: {_metrics_line(event)}{eta}", final=round_ == rounds
                    )
                case WorkerRounds() | Placed() | Checkpoint():
                    pass  # events for pages and records only
                case _:
                    self._tell(event)

    def _show(self, stage: str, line: str, *, final: bool) -> None:
        now = self._clock()
        if stage != self._stage:
            self._flush()
            self._stage, self._began, self._written = stage, now, now
        if final or now - self._written >= INTERVAL_SECONDS:
            self._write(line)
            self._written, self._pending = now, None
        else:
            self._pending = line

    def _tell(self, event: Event) -> None:
        line = told(event)
        if not isinstance(event, Note):
            self._flush()
        if line is not None:
            self._write(line)

    def _flush(self) -> None:
        """Writes the last state of rounds that ended early; the end of a pass has its own event."""
        if self._pending is not None and self._stage == "rounds":
            self._write(self._pending)
        self._pending = None

    def _eta(self, event: RoundDone) -> str:
        if self._stage != "rounds":
            self._first_round = event.round
            return ""
        done = event.round - self._first_round
        left = (event.rounds - event.round) * (self._clock() - self._began) / done if done > 0 else 0.0
        return f", {left:.0f} s left" if left else ""


class Bars:
    """A bar for each pass over the fragments and one for the rounds, drawn by rich."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        def whole() -> Column:  # on a narrow terminal only this text is truncated
            return Column(no_wrap=True)

        self._progress = Progress(
            TextColumn("{task.description:<10}", markup=False, table_column=whole()),
            BarColumn(bar_width=16, table_column=whole()),
            MofNCompleteColumn(table_column=whole()),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True, table_column=whole()),
            TextColumn("{task.fields[said]}", markup=False),
            console=Console(file=stream),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case FragmentDone(stage=stage, done=done, total=total):
                self._show(stage, done, total, "")
            case RoundDone(round=round_, rounds=rounds):
                self._show("rounds", round_, rounds, deciding_metric(event))
            case StatisticsDone() | BlocksDone() | MatrixDone():
                pass  # the bar of the completed stage shows it
            case _:
                line = told(event)
                if line is not None:
                    self._progress.console.print(escaped(line), markup=False, highlight=False, soft_wrap=True)

    def _show(self, stage: str, done: int, total: int, said: str) -> None:
        stage, said = escaped(stage), escaped(said)
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, said=said)
        self._progress.update(self._tasks[stage], completed=done, total=total, said=said)
