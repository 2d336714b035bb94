"""Defines the specification of the boosting rounds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RoundsSpec:
    """What every worker must know to train; the same for all of them."""

    run: str  # id of the run
    params: Mapping[str, Any]  # XGBoost's, of `objective.xgboost_params`
    rounds: int
    metrics: tuple[str, ...]  # the last one decides early stopping; none: nothing is measured
    early_stopping: int = 0  # rounds without a better value; 0: never
    row_sample: float = 1.0  # share of the rows (queries) each round
    seed: int = 0
    threads: int = 1  # of each worker
    device: str = "cpu"  # or "cuda"
    timeout_seconds: int = 1800  # of one collective, and of gathering the workers
    verbosity: int = 0
    checkpoint_rounds: int | None = None  # rounds between two checkpoints
    checkpoint_seconds: float = math.inf  # the same in seconds; whichever comes first
    full_meter: bool = False  # for benchmarks: the meter replays every collective often, and keeps the trees' shapes
