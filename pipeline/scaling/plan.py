"""Plans the measurements of a scaling run, checked before anything starts."""

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.efficiency.records import Mode
from pipeline.errors import JobError

WARMUP = 2  # rounds that are dropped at least: the first ones touch fresh memory and allocate XGBoost's buffers


@dataclass(frozen=True)
class Plan:
    """The points, and how often and for how many rounds each is measured."""

    workers: tuple[int, ...] = (1, 2)  # one point for each number
    modes: tuple[Mode, ...] = ("strong",)
    repeat: int = 5
    rounds: int = 30  # timed, of each repetition
    warmup: int = WARMUP  # rounds before them
    shares: tuple[float, ...] = ()  # of the rows, for the point of as many workers; other points: even shares
    single: bool = True  # whether the base case is measured

    def __post_init__(self) -> None:
        """JobError where the plan is impossible."""
        if not self.workers or min(self.workers) < 1 or sorted(set(self.workers)) != list(self.workers):
            raise JobError(f"--workers {listed(self.workers)}: expected rising numbers of workers, e.g. 1,2,4")
        if not self.modes or not set(self.modes) <= {"strong", "weak"} or len(set(self.modes)) < len(self.modes):
            raise JobError(f"--mode {listed(self.modes)}: expected strong, weak or strong,weak")
        for name, least in (("repeat", 1), ("rounds", 1), ("warmup", WARMUP)):
            if getattr(self, name) < least:
                raise JobError(f"--{name} {getattr(self, name)}: at least {least}")
        if self.shares:
            self._check_shares()

    def _check_shares(self) -> None:
        text = listed(self.shares)
        if not min(self.shares) > 0 or not abs(sum(self.shares) - 1) <= 1e-6:  # NaN fails both tests
            raise JobError(f"--shares {text}: expected positive shares that add up to 1, e.g. 0.3,0.7")
        if len(self.shares) not in self.workers:
            raise JobError(f"--shares {text}: {len(self.shares)} of them, but --workers {listed(self.workers)}")
        if "weak" in self.modes:
            raise JobError(f"--shares {text}: for --mode strong alone; in weak scaling every worker has the same")

    @property
    def most(self) -> int:
        """Workers of the largest point."""
        return self.workers[-1]


@dataclass(frozen=True)
class ScaleOptions:
    """Options of a scaling run other than what is measured."""

    out: str | os.PathLike[str] | None = None  # the folder; None: a dated one under scaling/
    overwrite: bool = False  # replace an earlier result there
    recalibrate: bool = False  # even if this machine has been calibrated
    compare: str | os.PathLike[str] | None = None  # an earlier result, or its folder
    force: bool = False  # compare although the machines differ
    allow_code: bool = False  # data.function, the user's own
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of the command, for the record


def default_folder() -> str:
    """A dated folder under scaling/, e.g. scaling/2026-11-21-031502."""
    return f"scaling/{datetime.datetime.now():%Y-%m-%d-%H%M%S}"


def listed(values: Sequence[object]) -> str:
    return ",".join(str(value) for value in values)
