"""Runs the boosting rounds in one task of one worker."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost
from xgboost import collective

from pipeline.config.encoding import ENCODING
from pipeline.config.metric_registry import BY_COUNTS
from pipeline.efficiency import sockets
from pipeline.efficiency.round_meter import Meter, MeterRecord, ResourceUse
from pipeline.errors import CollectiveError, TrainingError
from pipeline.events.types import RoundDone
from pipeline.runtime.allocator import reusing_freed_memory
from pipeline.runtime.task_ledger import timed_section
from pipeline.training.state import State
from pipeline.training.trainer import RoundsResult, Scores
from pipeline.training.xgboost.binned_metrics import EarlyStopping
from pipeline.training.xgboost.booster_probe import grown_trees, start_meter
from pipeline.training.xgboost.communicator import communicator
from pipeline.training.xgboost.matrix import PagedMatrix, Partition, Side
from pipeline.training.xgboost.model_bytes import model_bytes, pack, unpack
from pipeline.training.xgboost.round_metrics import RoundMetrics
from pipeline.training.xgboost.spec import RoundsSpec
from pipeline.training.xgboost.weights import Weights, warm_up_ranking_objective

CHECK_SECONDS = 0.5  # between two checks of a worker whether it is still wanted
# A round event takes about three milliseconds of CPU time on all sides, a worker's account half of that
# (`python -m benchmarks.events_cost`).
EVENT_SECONDS = 2.0  # round events are emitted at most this often, except the first and some others
ACCOUNT_SECONDS = 4.0  # the same for a worker's account of its rounds
ACCOUNTS_A_SECOND = 100.0  # for the whole cluster: a scheduler takes 0.17 ms for each, 2 % of a core
CHECKPOINT_SHARE = 0.005  # of the time that may be spent on checkpoints


Report = Callable[[RoundDone], None]
Account = Callable[[int, int, ResourceUse], None]  # first and last round, and their time on this worker
Cancelled = Callable[[], bool]
Keep = Callable[[State], None]
HandOver = Callable[[State, tuple[int, ...]], None]  # the second argument: ranks that leave


@dataclass(frozen=True)
class RoundHooks:
    """Callbacks of the rounds, on every worker where no rank is named."""

    cancelled: Cancelled = lambda: False  # whether the result is no longer wanted
    leaving: Cancelled = lambda: False  # whether this worker is about to leave
    report: Report = lambda event: None  # on rank 0, for rounds now and then
    account: Account = lambda first, last, spent: None  # for rounds now and then
    keep: Keep = lambda state: None  # the states for checkpoints, on rank 0
    hand_over: HandOver = lambda state, leaving: None  # the state that another attempt continues from


NO_HOOKS = RoundHooks()


def train_rounds(
    partition: Partition,
    spec: RoundsSpec,
    rank_args: Mapping[str, Any] | None = None,
    *,
    start: State | None = None,
    hooks: RoundHooks = NO_HOOKS,
) -> RoundsResult:
    """Boosts on this worker's partition, together with its peers if `rank_args` (of the tracker) is given.

    `start`: continues after that state's round, as if it had boosted the rounds before.  Once a worker is cancelled or
    about to leave, all workers raise CollectiveError, after the first rank that stays passed the state to
    `hooks.hand_over`.  After the last round every rank passes it, since a loss while rows are scored must not cost
    rounds.
    """
    begin = time.perf_counter()
    before = sockets.connections()
    with xgboost.config_context(nthread=spec.threads, verbosity=spec.verbosity), contextlib.ExitStack() as stack:
        with timed_section("bootstrap"):
            stack.enter_context(communicator(rank_args))
            rounds = _Rounds(partition, spec, start, alone=rank_args is None, hooks=hooks)
            rounds.meter = stack.enter_context(
                contextlib.closing(start_meter(rounds.booster, partition.train, spec, before))
            )
        on_disk = isinstance(partition.train.matrix, PagedMatrix)  # its pages are freed to make room for others
        with timed_section("rounds"), contextlib.nullcontext() if on_disk else reusing_freed_memory():
            rounds.boost()
            last = rounds.state()
            hooks.hand_over(last, ())
        with timed_section("meter"):
            rounds.meter.replay()
        with timed_section("scores"):
            return rounds.result(begin, last)


class _Rounds:
    """One training on one worker."""

    def __init__(
        self, partition: Partition, spec: RoundsSpec, start: State | None, *, alone: bool, hooks: RoundHooks
    ) -> None:
        self.spec, self.alone, self.hooks = spec, alone, hooks
        self.rank = 0 if alone else collective.get_rank()
        self.world = 1 if alone else collective.get_world_size()
        # A plain function, not a bound method: a reference cycle would keep the matrices alive.
        total = _local_sum if alone else _allreduce_sum
        self.train = partition.train
        rows = total(np.array([partition.train.rows, partition.validation.rows], dtype=np.float64))
        self.total_rows = int(rows[0])
        self.validation = partition.validation if rows[1] else None
        matrices = [side.matrix for side in (self.train, self.validation) if side is not None]
        self.booster = xgboost.Booster(_booster_params(spec), matrices)
        self.measured = RoundMetrics(self.booster, spec.metrics, total)
        self.seconds: list[float] = []
        self.stopping = EarlyStopping(
            spec.early_stopping if self.validation else 0, spec.metrics[-1] if spec.metrics else ""
        )
        self.stopped = False
        # Later rounds of dart rescale the trees of earlier ones: the best model is then no prefix of the last one.
        self.keeps_best = spec.params.get("booster") == "dart" and self.stopping.patience > 0
        self.best_booster = b""
        self.weights = Weights(self.train, total, share=spec.row_sample, seed=spec.seed)
        self.meter: Meter
        if start is not None:
            self._restore(start)
        self.first = len(self.seconds) + 1
        self._check_at = self.first
        self._account_seconds = max(ACCOUNT_SECONDS, self.world / ACCOUNTS_A_SECOND)
        self._told = self._accounted = self.first - 1
        self._told_at = self._accounted_at = time.monotonic()
        self._kept_at, self._kept_seconds = time.monotonic(), 0.0

    def _restore(self, start: State) -> None:
        """Restores the state of a training after a round."""
        booster, self.best_booster = unpack(start.content)
        self.booster.load_model(bytearray(booster))
        self.measured.history = {name: list(series) for name, series in start.history.items()}
        self.seconds, self.stopped = list(start.round_seconds), start.stopped
        self.stopping.best_round, self.stopping.best = start.best_round, start.best
        if self.keeps_best and not self.best_booster:  # written by a version that kept the rounds only
            self.stopping.best_round, self.stopping.best = 0, math.nan
        if self.weights.ranking and self.weights.needed and not self.stopped:
            self.weights.draw(1)
            warm_up_ranking_objective(
                self.booster, self.train.matrix, self.spec.params.get("interaction_constraints", ())
            )

    def boost(self) -> None:
        """Boosts the remaining rounds."""
        for number in range(self.first, self.spec.rounds + 1):
            if self.stopped:
                break
            start = time.perf_counter()
            with self.meter.round():
                self.weights.draw(number)
                self.meter.trees()
                self.booster.update(self.train.matrix, number - 1)
                self.stopped = self._measure(number)
            self.seconds.append(time.perf_counter() - start)
            last = self.stopped or number == self.spec.rounds
            self._report_round(number, last)
            self._report_worker(number, last)
            if number == self.first:
                check_device(self.booster, self.spec.device)
            if number == self._check_at:
                self._check(number)
            if not last and self._checkpoint_is_due(number):
                self._checkpoint()

    def _measure(self, number: int) -> bool:
        """Computes the round's metrics; returns True if training should stop.

        Validation rows are measured in every round, training rows in some.
        """
        if not self.spec.metrics:
            self.stopping.best_round = number
            return False
        self.meter.measuring()
        values: dict[str, float] = {}
        if _evaluates_train(number):
            self.weights.restore()
            native_only = self.validation is not None
            values |= self.measured.side(self.train, "train", number, self.meter, native_only=native_only)
        if self.validation is not None:
            values |= self.measured.side(self.validation, "validation", number, self.meter)
        self.measured.enter(number, values)
        decisive = values.get(f"validation.{self.stopping.metric}")
        if decisive is None:
            self.stopping.best_round = number
            return False
        stop = self.stopping.observe(number, decisive)
        if self.keeps_best and self.stopping.best_round == number:
            self.best_booster = bytes(self.booster.save_raw("ubj"))
        return stop

    def _check(self, number: int) -> None:
        """Ends the attempt on all workers if one of them leaves, or if the result is no longer wanted.

        The workers agree in one collective about every half second: rank 0 decides after how many rounds the next one
        is.
        """
        recent = self.seconds[-8:]
        rounds = max(1, round(CHECK_SECONDS / max(1e-6, sum(recent) / len(recent)))) if self.rank == 0 else 0
        self.meter.settle()
        vote = np.zeros(2 + self.world)
        vote[:2] = float(self.hooks.cancelled()), float(rounds)
        vote[2 + self.rank] = float(self.hooks.leaving())
        agreed = vote if self.alone else collective.allreduce(vote, collective.Op.MAX)
        leaving = tuple(int(rank) for rank in np.flatnonzero(agreed[2:]))
        if agreed[0] or leaving:
            if self.rank == next((rank for rank in range(self.world) if rank not in leaving), 0):
                self.hooks.hand_over(self.state(), leaving)
            raise CollectiveError("a worker is leaving, or its task was cancelled")
        self._check_at = number + int(agreed[1])

    def _checkpoint_is_due(self, number: int) -> bool:
        """Whether to checkpoint, by rounds or by time; by time never more than CHECKPOINT_SHARE of it.

        Rank 0 decides alone, and the others wait for it in the next collective.
        """
        if self.rank != 0:
            return False
        passed = time.monotonic() - self._kept_at
        if self.spec.checkpoint_rounds is not None and number % self.spec.checkpoint_rounds == 0:
            return True
        return passed >= max(self.spec.checkpoint_seconds, self._kept_seconds / CHECKPOINT_SHARE)

    def _checkpoint(self) -> None:
        start = time.monotonic()
        self.hooks.keep(self.state())
        self._kept_at = time.monotonic()
        self._kept_seconds = self._kept_at - start

    def state(self) -> State:
        return State(
            round=len(self.seconds),
            content=pack(bytes(self.booster.save_raw("ubj")), self.best_booster),
            history={name: list(series) for name, series in self.measured.history.items()},
            round_seconds=list(self.seconds),
            best_round=self.stopping.best_round,
            best=float(self.stopping.best),
            stopped=self.stopped,
        )

    def _report_round(self, number: int, last: bool) -> None:
        now = time.monotonic()
        due = last or number == self.first or _evaluates_train(number) or now - self._told_at >= EVENT_SECONDS
        if self.rank != 0 or not due:
            return
        rows = self.total_rows * (number - self._told)
        latest = {name: series[-1] for name, series in self.measured.history.items() if len(series) == number}
        self.hooks.report(
            RoundDone(
                round=number, rounds=self.spec.rounds, metrics=latest, best_round=self.stopping.best_round or number,
                best=None if math.isnan(self.stopping.best) else float(self.stopping.best), rows_per_second=rows / max(1e-9, now - self._told_at),
            )
        )  # fmt: skip
        self._told, self._told_at = number, now

    def _report_worker(self, number: int, last: bool) -> None:
        now = time.monotonic()
        if last or now - self._accounted_at >= self._account_seconds:
            spent = self.meter.spent(self._accounted + 1 - self.first)
            self.hooks.account(self._accounted + 1, number, spent)
            self._accounted, self._accounted_at = number, now

    def result(self, begin: float, last: State) -> RoundsResult:
        """Returns the result; `last`: the state after the last round."""
        self.weights.restore()
        boosted = len(self.seconds)
        best = self.stopping.best_round or boosted  # there is no best round if the metric was never a number
        booster = self._best(best, boosted)
        self.measured.fill(boosted)
        return RoundsResult(
            model=model_bytes(booster) if self.rank == 0 else b"",
            rounds=boosted,
            best_round=best,
            learned=self.rank == 0 and bool(booster.get_score(importance_type="weight")),
            history=self.measured.history,
            round_seconds=self.seconds,
            train=_scores(booster, self.train),
            validation=None if self.validation is None else _scores(booster, self.validation),
            meter=self._metered() if boosted >= self.first else None,
            state=last if self.rank == 0 else None,
            seconds=time.perf_counter() - begin,
        )

    def _best(self, best: int, boosted: int) -> xgboost.Booster:
        if best == boosted:
            return self.booster
        if not self.best_booster:
            return self.booster[:best]
        booster = xgboost.Booster(_booster_params(self.spec))
        booster.load_model(bytearray(self.best_booster))
        return booster

    def _metered(self) -> MeterRecord:
        wanted = self.meter.wants_trees and self.rank == 0
        return self.meter.record(grown_trees(self.booster)[self.first - 1 :] if wanted else ())


def _booster_params(spec: RoundsSpec) -> dict[str, Any]:
    """Returns XGBoost's parameters, with those that depend on the worker."""
    return {
        **spec.params, "nthread": spec.threads, "device": spec.device, "max_bin": ENCODING.codes,
        "verbosity": spec.verbosity, "eval_metric": [metric for metric in spec.metrics if metric not in BY_COUNTS],
    }  # fmt: skip


def _evaluates_train(number: int) -> bool:
    """Whether the metrics of training rows are measured in this round: in 1, 2, 5, 10, 20, 50...

    Predicting all of them costs up to a quarter of a round, and no decision depends on it.
    """
    return f"{number}".rstrip("0") in ("1", "2", "5")


def _local_sum(values: np.ndarray) -> np.ndarray:
    """Returns the values: the sum over a single worker."""
    return values


def _allreduce_sum(values: np.ndarray) -> np.ndarray:
    """Returns the sum over the workers."""
    found: np.ndarray = collective.allreduce(values, collective.Op.SUM)
    return found


def _scores(booster: xgboost.Booster, side: Side) -> Scores:
    return Scores(
        row_ids=side.row_ids,
        prediction=booster.predict(side.matrix),
        label=side.matrix.get_label(),
        weight=side.weight,
        group=side.group,
    )


def check_device(booster: xgboost.Booster, device: str) -> None:
    """Raises TrainingError if XGBoost has silently trained on another device than requested."""
    used = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
    if used.partition(":")[0] != device.partition(":")[0]:
        raise TrainingError(f"XGBoost trained on {used} though {device} was asked for")
