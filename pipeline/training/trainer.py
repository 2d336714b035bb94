"""Defines the protocol of a trainer: the engine that makes a model of partitions, round by round.

What supervises a training (supervisor, recovery, checkpoints, work set, handover) knows this protocol and no engine.
`trainers.py` lists the trainers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from distributed import Future

from pipeline.config.job import Training
from pipeline.efficiency.round_meter import MeterRecord
from pipeline.errors import TrainingError
from pipeline.events.findings import Finding
from pipeline.events.types import Event, RoundDone, discard
from pipeline.preprocess.bins import Cuts
from pipeline.preprocess.block import Block
from pipeline.preprocess.prepare import PreparedData
from pipeline.runtime.context import RunContext
from pipeline.training.state import State


class StoppedError(TrainingError):
    """The rounds were stopped because `TrainingCallbacks.should_stop` returned True."""


class Partition(Protocol):
    """What one worker trains on; stays on the worker that built it."""

    @property
    def nbytes(self) -> int: ...


@dataclass(frozen=True)
class WorkerMatrices:
    """The partitions, each on its worker."""

    workers: tuple[str, ...]  # addresses, rank 0 first
    futures: tuple[Future, ...]  # of Partition


def _discard_checkpoint(state: State) -> None:
    """Default: keeps none."""


@dataclass(frozen=True)
class TrainingCallbacks:
    """Start state and callbacks of one training attempt."""

    start: State | None = None  # continue after its round
    on_event: Callable[[Event], None] = discard  # receives RoundDone, WorkerRounds, and notes
    on_checkpoint: Callable[[State], None] = (
        _discard_checkpoint  # receives the states of checkpoints, in its own thread
    )
    should_stop: Callable[[], bool] = lambda: False  # whether to stop here, because the run can restart on more workers
    published: bool = False  # whether its rounds are shown to everyone who follows the scheduler's runs


@dataclass(frozen=True)
class Attempt:
    """One attempt at the rounds of a training."""

    context: RunContext
    prepared: PreparedData
    matrices: WorkerMatrices
    rounds: int  # the last one to train
    callbacks: TrainingCallbacks


@dataclass(frozen=True)
class Scores:
    """Predictions of the final model for one worker's rows of one use, for the exact evaluation."""

    row_ids: np.ndarray  # (rows,) uint64
    prediction: np.ndarray  # (rows,) or (rows, outputs) float32: probability, value or ranking score
    label: np.ndarray  # (rows,) float32
    weight: np.ndarray | None  # (rows,) float32
    group: np.ndarray | None  # (rows,) int64


@dataclass(frozen=True)
class RoundsResult:
    """The result of the rounds; the same on all workers, except `model`, `learned` and the scores."""

    model: bytes  # the trainer's file, of the best round; empty except on rank 0
    rounds: int  # trained
    best_round: int  # rounds of the model
    learned: bool  # whether the model distinguishes any rows; False except on rank 0
    history: Mapping[str, list[float]]  # "validation.auc" -> a value per round, NaN where not measured
    round_seconds: list[float]
    seconds: float  # of the whole task
    meter: MeterRecord | None = field(repr=False, default=None)  # of this worker; None: it trained no round
    state: State | None = field(repr=False, default=None)  # after the last round; None except on rank 0
    train: Scores | None = field(repr=False, default=None)
    validation: Scores | None = field(repr=False, default=None)

    def last_round(self, rounds: int) -> RoundDone:
        """Returns the event of the last round of a training of so many rounds."""
        latest = {name: series[-1] for name, series in self.history.items() if math.isfinite(series[-1])}
        best = math.nan if self.state is None else self.state.best
        return RoundDone(
            round=self.rounds, rounds=rounds, metrics=latest, best_round=self.best_round,
            best=None if math.isnan(best) else best, rows_per_second=0.0,
        )  # fmt: skip


@dataclass(frozen=True)
class TrainingResult:
    """The result, and where the predictions for the exact evaluation are."""

    result: RoundsResult  # without scores
    scores: tuple[Future, ...]  # per rank a (train, validation or None) pair of Scores, on that worker
    meters: tuple[MeterRecord, ...]  # by rank; empty where no round was left to train
    findings: tuple[Finding, ...] = ()  # about the rounds, for the caller to emit


class Trainer[Spec](Protocol):
    """An engine.  `Spec`: what every worker must know to train; the same for all of them."""

    @property
    def name(self) -> str:
        """Its key in the table of trainers; checkpoints and model folders hold it."""

    def versions(self) -> Mapping[str, str]:
        """Returns the packages that decide the bytes of its states, with their versions: a state is theirs alone."""

    def resolved(self, training: Training) -> Mapping[str, Any]:
        """Returns its parameters in force under training.params, with the defaults: by them states are compared."""

    def check(self, training: Training, objective: str) -> None:
        """Raises JobError for settings that it refuses, before a row is read; `objective` may be "auto"."""

    def build(
        self,
        blocks: Sequence[Block],
        cuts: Cuts,
        names: Sequence[str],
        *,
        threads: int,
        device: Literal["cpu", "cuda"],
        scratch: Path | None,
    ) -> Partition:
        """On a worker, outside any communicator: builds its partition of its blocks; `names`: of the features.

        `scratch`: a folder on local disk to keep it in; None: in memory.
        """

    def spec(self, attempt: Attempt) -> Spec:
        """Returns what the workers must know; may compute on all rows, e.g. the intercept."""

    def rounds(self, attempt: Attempt, spec: Spec) -> TrainingResult:
        """Trains on the partitions, each on its worker, from the start state on.

        WorkerLostError, CollectiveError, SchedulerLostError or StoppedError if the training may continue elsewhere or
        later; TrainingError, DataError or JobError for an error that another attempt would meet again.
        """
