"""The boosting rounds, as they run in one task of one worker."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xgboost
from xgboost import collective

from pipeline.efficiency import sockets
from pipeline.efficiency.meter import Meter, MeterRecord
from pipeline.errors import TrainingError
from pipeline.events import RoundDone
from pipeline.parts import entered
from pipeline.training.communicator import communicator
from pipeline.training.cuts import XGBOOST_MAX_BIN
from pipeline.training.matrix import Partition, Side
from pipeline.training.metering import grown_trees, start_meter
from pipeline.training.monitor import BINNED, EarlyStopping, ScoreCounts, rounded
from pipeline.training.weights import Weights

CHECK_SECONDS = 0.5  # how often a worker looks whether it is still wanted
EVENT_SECONDS = 0.2  # rounds are told at most this often
RATIO = 2  # elements that XGBoost sums over the workers for one of its metrics


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
    full_meter: bool = False  # for benchmarks: the meter replays every collective often, and keeps the trees' shapes


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
    """What the rounds have led to; the same on all workers, but for `model` and the scores."""

    model: bytes  # UBJSON, cut to the best round; empty but for rank 0
    rounds: int  # boosted
    best_round: int  # rounds of the model
    history: Mapping[str, list[float]]  # "validation.auc" -> a value per round, NaN where not measured
    round_seconds: list[float]
    seconds: float  # of the whole task
    meter: MeterRecord | None = field(repr=False, default=None)  # of this worker
    train: Scores | None = field(repr=False, default=None)
    validation: Scores | None = field(repr=False, default=None)


Report = Callable[[RoundDone], None]
Unwanted = Callable[[], bool]


def train_rounds(
    partition: Partition,
    spec: RoundsSpec,
    rank_args: Mapping[str, Any] | None = None,
    *,
    unwanted: Unwanted = lambda: False,
    report: Report = lambda event: None,
) -> RoundsResult:
    """Boosts on this worker's partition, together with its peers where `rank_args` (of the tracker) is given.

    `unwanted` tells whether this worker should stop; TrainingError then, on all of them.
    """
    start = time.perf_counter()
    before = sockets.connections()
    with xgboost.config_context(nthread=spec.threads, verbosity=spec.verbosity), contextlib.ExitStack() as stack:
        with entered("bootstrap"):
            stack.enter_context(communicator(rank_args))
            rounds = _Rounds(partition, spec, alone=rank_args is None, unwanted=unwanted, report=report)
            rounds.meter = stack.enter_context(
                contextlib.closing(start_meter(rounds.booster, partition.train, spec, before))
            )
        with entered("rounds"):
            rounds.boost()
        with entered("meter"):
            rounds.meter.replay()
        with entered("scores"):
            return rounds.result(start)


class _Rounds:
    """One training on one worker."""

    def __init__(
        self, partition: Partition, spec: RoundsSpec, *, alone: bool, unwanted: Unwanted, report: Report
    ) -> None:
        self.spec, self.alone, self.unwanted, self.report = spec, alone, unwanted, report
        self.rank = 0 if alone else collective.get_rank()
        self.train = partition.train
        rows = self._sum(np.array([partition.train.rows, partition.validation.rows], dtype=np.float64))
        self.total_rows = int(rows[0])
        self.validation = partition.validation if rows[1] else None
        params = {
            **spec.params, "nthread": spec.threads, "device": spec.device, "max_bin": XGBOOST_MAX_BIN,
            "verbosity": spec.verbosity,
        }  # fmt: skip
        native = [metric for metric in spec.metrics if metric not in BINNED]
        matrices = [side.matrix for side in (self.train, self.validation) if side is not None]
        self.booster = xgboost.Booster({**params, "eval_metric": native}, matrices)
        self.history: dict[str, list[float]] = {}
        self.seconds: list[float] = []
        self.stopping = EarlyStopping(
            spec.early_stopping if self.validation else 0, spec.metrics[-1] if spec.metrics else ""
        )
        self.weights = Weights(self.train, self._sum, share=spec.row_sample, seed=spec.seed)
        self._counters: dict[int, ScoreCounts] = {}
        self.meter: Meter
        self._check_at, self._told_at = 1, 0.0

    def boost(self) -> None:
        for number in range(1, self.spec.rounds + 1):
            start = time.perf_counter()
            with self.meter.round():
                self.weights.draw(number)
                self.meter.trees()
                self.booster.update(self.train.matrix, number - 1)
                stop = self._measure(number)
            self.seconds.append(time.perf_counter() - start)
            last = stop or number == self.spec.rounds
            self._tell(number, last)
            if number == 1:
                check_device(self.booster, self.spec.device)
            if number == self._check_at:
                self._check(number)
            if stop:
                break

    def _measure(self, number: int) -> bool:
        """The round's metrics; True when training should stop.

        Validation rows are measured in every round.  Training rows are measured in rounds 1, 2, 5, 10, 20, 50...:
        going over all of them costs up to a quarter of a round, and nothing is decided by it.
        """
        if not self.spec.metrics:
            self.stopping.best_round = number
            return False
        self.meter.measuring()
        values: dict[str, float] = {}
        if f"{number}".rstrip("0") in ("1", "2", "5"):
            self.weights.restore()
            values |= self._metrics(self.train, "train", number, native_only=self.validation is not None)
        if self.validation is not None:
            values |= self._metrics(self.validation, "validation", number)
        for name, value in values.items():
            series = self.history.setdefault(name, [])
            series.extend([math.nan] * (number - 1 - len(series)))
            series.append(value)
        decisive = values.get(f"validation.{self.stopping.metric}")
        if decisive is None:
            self.stopping.best_round = number
            return False
        return self.stopping.observe(number, decisive)

    def _metrics(self, side: Side, name: str, number: int, native_only: bool = False) -> dict[str, float]:
        """The metrics of one side, over all workers."""
        text = self.booster.eval_set([(side.matrix, name)], number - 1)
        values = {}
        for part in text.split("\t")[1:]:
            key, _, value = part.rpartition(":")
            values[f"{name}.{key.removeprefix(name + '-')}"] = rounded(float(value))
            self.meter.collective(RATIO)
        own = [metric for metric in self.spec.metrics if metric in BINNED]
        if own and not native_only:
            margin = self.booster.predict(side.matrix, output_margin=True)
            counts = self._sum(self._counter(side).count(margin))
            self.meter.collective(counts.size)
            values |= {f"{name}.{metric}": rounded(BINNED[metric](counts)) for metric in own}
        return values

    def _counter(self, side: Side) -> ScoreCounts:
        if id(side) not in self._counters:
            self._counters[id(side)] = ScoreCounts(side.matrix.get_label(), side.weight)
        return self._counters[id(side)]

    def _check(self, number: int) -> None:
        """Stops all workers when one of them is no longer wanted.

        The workers agree in one collective about every half second: rank 0 says how many rounds that is.
        """
        recent = self.seconds[-8:]
        rounds = max(1, round(CHECK_SECONDS / max(1e-6, sum(recent) / len(recent)))) if self.rank == 0 else 0
        self.meter.settle()
        vote = np.array([float(self.unwanted()), float(rounds)])
        stop, rounds_ahead = vote if self.alone else collective.allreduce(vote, collective.Op.MAX)
        if stop:
            raise TrainingError("training was cancelled")
        self._check_at = number + int(rounds_ahead)

    def _tell(self, number: int, last: bool) -> None:
        now = time.monotonic()
        if self.rank != 0 or (not last and number > 1 and now - self._told_at < EVENT_SECONDS):
            return
        self._told_at = now
        latest = {name: series[-1] for name, series in self.history.items() if len(series) == number}
        self.report(
            RoundDone(
                round=number, rounds=self.spec.rounds, metrics=latest, best_round=self.stopping.best_round,
                rows_per_second=self.total_rows / max(1e-9, self.seconds[-1]),
            )
        )  # fmt: skip

    def result(self, start: float) -> RoundsResult:
        self.weights.restore()
        boosted, best = len(self.seconds), self.stopping.best_round
        booster = self.booster if best == boosted else self.booster[:best]
        for series in self.history.values():
            series.extend([math.nan] * (boosted - len(series)))
        return RoundsResult(
            model=bytes(booster.save_raw("ubj")) if self.rank == 0 else b"",
            rounds=boosted,
            best_round=best,
            history=self.history,
            round_seconds=self.seconds,
            train=_scores(booster, self.train),
            validation=None if self.validation is None else _scores(booster, self.validation),
            meter=self.meter.record(grown_trees(self.booster) if self.meter.wants_trees and self.rank == 0 else ()),
            seconds=time.perf_counter() - start,
        )

    def _sum(self, values: np.ndarray) -> np.ndarray:
        return values if self.alone else collective.allreduce(values, collective.Op.SUM)


def _scores(booster: xgboost.Booster, side: Side) -> Scores:
    return Scores(
        row_ids=side.row_ids,
        prediction=booster.predict(side.matrix),
        label=side.matrix.get_label(),
        weight=side.weight,
        group=side.group,
    )


def check_device(booster: xgboost.Booster, device: str) -> None:
    """TrainingError where XGBoost has quietly trained on another device than asked."""
    used = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
    if used.partition(":")[0] != device.partition(":")[0]:
        raise TrainingError(f"XGBoost trained on {used} though {device} was asked for")
