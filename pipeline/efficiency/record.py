"""What a scaling run leaves behind: result.json, every sample of it, in one schema.

All seconds are per boosting round unless a name says otherwise.  Measured and predicted splits have the same form, so
that both go through the same arithmetic (`definitions.figures`).
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.efficiency.definitions import Figures

SCHEMA = 1  # counted up with every change that an older reader would misread


@dataclass(frozen=True)
class Split:
    """Where one worker's time goes, in seconds per round."""

    useful: float  # u: compute
    transfer: float  # x: in collectives, with nobody late
    wait: float  # w: for peers that compute longer
    other: float  # o: run queue, and what happens between the rounds


@dataclass(frozen=True)
class Configuration:
    """One point of a scaling run."""

    mode: Literal["strong", "weak"]
    workers: int
    threads: int  # of each worker
    rows: tuple[int, ...]  # training rows of each worker, rank 0 first
    features: int
    bins: int  # of all features together, the missing ones not counted
    depth: int  # 0: no limit (loss-guided growth)
    growth: Literal["depthwise", "lossguide"]
    max_leaves: int  # 0: no limit
    trees_per_round: int
    column_share: float  # features considered, of all
    row_share: float  # rows of a round, of all
    objective: str
    rounds: int  # timed
    warmup: int  # rounds before them, dropped
    device: Literal["cpu", "cuda"]
    oversubscribed: bool  # more threads than cores


@dataclass(frozen=True)
class Predicted:
    """What the model said before the run."""

    time: str  # when, ISO 8601, UTC
    seconds: float  # T: of a round
    seconds_low: float  # band of T: what the calibration's own residuals leave open
    seconds_high: float
    splits: tuple[Split, ...]  # by rank
    figures: Figures
    bytes_bound: tuple[int, ...]  # sent by each rank a round, full trees
    bytes_estimate: tuple[int, ...]  # likewise, trees as they are expected to grow


@dataclass(frozen=True)
class WorkerSample:
    """One worker in one repetition."""

    rank: int
    worker: str  # Dask's name of it
    seconds: float  # of a round on this worker's own clock
    split: Split
    closure: float  # |u + x + w + o - T| / T
    bytes_sent: int | None  # by XGBoost's sockets in the timed rounds; None: the system does not tell
    bytes_expected: int | None  # the same, computed from the trees that were built
    meter_share: float  # of the time, that the measuring itself took
    method: str  # how useful time was told from the rest, e.g. "thread-cpu"
    missing: tuple[str, ...]  # what this system could not measure, in words


@dataclass(frozen=True)
class Sample:
    """One repetition of one point."""

    repetition: int
    time: str  # when it began, ISO 8601, UTC
    seconds: float  # T: of a round, the longest worker's
    workers: tuple[WorkerSample, ...]
    figures: Figures
    round_seconds: tuple[float, ...]  # of every timed round on rank 0
    retried: bool = False  # the first try lost a worker


@dataclass(frozen=True)
class Point:
    """One configuration: predicted, then measured."""

    configuration: Configuration
    predicted: Predicted | None  # None: the machine could not be calibrated for it; `note` says why
    samples: tuple[Sample, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Single:
    """The best single process on the same cores: the base case."""

    mode: Literal["strong", "weak"]
    rows: int
    threads: int
    seconds: tuple[float, ...]  # of a round, one value a repetition
    note: str = ""  # e.g. that it ran in a worker, not in a process of its own


@dataclass(frozen=True)
class Result:
    """A whole scaling run."""

    name: str  # what was trained, in words
    arguments: Mapping[str, Any]  # of the command
    circumstances: Mapping[str, Any]  # machine, versions, commit
    calibration: Mapping[str, Any]  # `Machine.to_dict()`; empty: none
    singles: tuple[Single, ...]
    points: tuple[Point, ...]
    sentences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    schema: int = field(default=SCHEMA)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)
