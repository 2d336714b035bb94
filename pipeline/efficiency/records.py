"""Defines the record of a scaling run: result.json with every sample, in one schema.

All seconds are per boosting round unless a name says otherwise.  Measured and predicted splits have the same form, so
that both go through the same arithmetic (`definitions.figures`).
"""

import dataclasses
import json
import os
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pipeline.config.limited_file import read_limited
from pipeline.efficiency.definitions import Figures
from pipeline.errors import UserError

RESULT = "result.json"
LARGEST_NBYTES = 512 << 20  # of one; a long run has a few MB
REPR_CHARACTERS = 300  # of the explaining sentences
SCHEMA = 1  # incremented with every change that an older reader would misread

Mode = Literal["strong", "weak"]  # the same rows for any number of workers; the same rows for each worker


@dataclass(frozen=True)
class TimeSplit:
    """How one worker's time is spent, in seconds per round."""

    useful: float  # u: compute
    transfer: float  # x: in collectives, with no worker late
    wait: float  # w: for peers that compute longer
    other: float  # o: run queue, and the time between the rounds


@dataclass(frozen=True)
class Configuration:
    """One point of a scaling run."""

    mode: Mode
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
class Prediction:
    """The model's prediction, made before the run."""

    time: str  # when, ISO 8601, UTC
    seconds: float  # T: of a round
    seconds_low: float  # band of T: the calibration's residual uncertainty
    seconds_high: float
    splits: tuple[TimeSplit, ...]  # by rank
    figures: Figures
    bytes_bound: tuple[int, ...]  # sent by each rank a round, full trees
    bytes_estimate: tuple[int, ...]  # the same, with trees of the expected size


@dataclass(frozen=True)
class WorkerSample:
    """One worker in one repetition."""

    rank: int
    worker: str  # Dask's name of it
    seconds: float  # of a round on this worker's own clock
    split: TimeSplit
    closure: float | None  # |u + x + w + o - T| / T; None: a part was not measured
    bytes_sent: int | None  # by XGBoost's sockets in the timed rounds; None: the system does not report it
    bytes_expected: int | None  # the same, computed from the trees that were built
    meter_share: float  # share of the time, taken by the measuring itself
    method: str  # how useful time was separated from the rest, e.g. "thread-cpu"
    missing: tuple[str, ...]  # for the user: what this system could not measure


@dataclass(frozen=True)
class ScalingSample:
    """One repetition of one point."""

    repetition: int
    time: str  # when it began, ISO 8601, UTC
    seconds: float  # T: of a round, the longest worker's
    workers: tuple[WorkerSample, ...]
    figures: Figures
    round_seconds: tuple[float, ...]  # of every timed round on rank 0
    retried: bool = False  # the first attempt lost a worker


@dataclass(frozen=True)
class Point:
    """One configuration: predicted, then measured."""

    configuration: Configuration
    predicted: Prediction | None  # None: the machine could not be calibrated for it; `note` gives the reason
    samples: tuple[ScalingSample, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Single:
    """The best single process on the same cores: the base case."""

    mode: Mode
    rows: int
    threads: int
    seconds: tuple[float, ...]  # of a round, one value a repetition
    note: str = ""  # e.g. that it ran in a worker, not in a process of its own


@dataclass(frozen=True, repr=False)
class Result:
    """A whole scaling run."""

    name: str  # description of the workload
    arguments: Mapping[str, Any]  # of the command
    circumstances: Mapping[str, Any]  # machine, versions, commit
    calibration: Mapping[str, Any]  # `Machine.to_dict()`; empty: none
    singles: tuple[Single, ...]
    points: tuple[Point, ...]
    sentences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    schema: int = field(default=SCHEMA)

    def __repr__(self) -> str:
        said = textwrap.shorten(" ".join(self.sentences), REPR_CHARACTERS) or "nothing to explain"
        return f"<scaling of {self.name}: {len(self.points)} configurations; {said}>"

    def to_dict(self) -> dict[str, Any]:
        """A dict of JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Result":
        """The inverse of `to_dict`; UserError for another schema or an invalid document."""
        schema = value.get("schema")
        if schema != SCHEMA:
            raise UserError(f"schema {schema}, this version reads schema {SCHEMA}: measure again, or use that version")
        try:
            made: Result = _restored(cls, value)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"not a whole result of a scaling run: {error}") from None
        return made

    def point(self, mode: str, workers: int) -> Point | None:
        """The point with this many workers; None where it does not exist."""
        for point in self.points:
            if (point.configuration.mode, point.configuration.workers) == (mode, workers):
                return point
        return None


def write(result: Result, folder: Path) -> Path:
    """Writes result.json atomically: a reader never sees a partial file."""
    path = folder / RESULT
    partial = folder / f".{RESULT}.partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(result.to_dict(), file, indent=1, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    return path


def read(path: str | os.PathLike[str]) -> Result:
    """The result in a file, or in a folder that holds a result.json; UserError names the file and the fault."""
    path = Path(path)
    path = path / RESULT if path.is_dir() else path
    content = read_limited(path, LARGEST_NBYTES, "a result", UserError)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not JSON") from None
    try:
        return Result.from_dict(value if isinstance(value, Mapping) else {})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (AttributeError, TypeError, KeyError, ValueError):
        raise UserError(f"{path}: damaged: not what a scaling run writes") from None


def _machine_of(circumstances: Mapping[str, Any]) -> str:
    """What identifies a machine, as text."""
    machine = circumstances.get("machine", {})
    gpus = ", ".join(machine.get("gpus", ()))
    return f"{machine.get('processor')}, {machine.get('cores')} cores{', ' + gpus if gpus else ''}"


def check_comparable(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """UserError where two results come from different machines: their seconds cannot be compared."""
    ours, theirs = _machine_of(one), _machine_of(other)
    if ours != theirs:
        raise UserError(f"results of different machines are not compared ({ours} | {theirs}): see --force")


def _restored(kind: Any, value: Any) -> Any:
    """The value converted to the type: dataclasses from mappings, tuples from lists."""
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        if unknown := value.keys() - hints.keys():
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        return kind(**{name: _restored(hints[name], item) for name, item in value.items()})
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _restored(next(kind for kind in arguments if kind is not type(None)), value)
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise TypeError(f"expected a list, got {value!r:.40}")
        return tuple(_restored(arguments[0], item) for item in value)
    if kind is float:
        return float(value)
    return value
