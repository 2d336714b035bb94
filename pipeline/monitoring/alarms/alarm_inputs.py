"""Extracts the quantities that alarms watch from the events of a run.  Pure: time is an argument."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Protocol

from pipeline.config.alarms import NO_PROGRESS
from pipeline.config.metric_registry import rising
from pipeline.events.types import (
    BlocksDone,
    Checkpoint,
    Evaluated,
    Event,
    Failed,
    FragmentDone,
    MatrixDone,
    Placed,
    Restarted,
    RoundDone,
    Saved,
    Started,
    StatisticsDone,
    WorkerLost,
    WorkerRounds,
)
from pipeline.monitoring.state.restarts import Restarts

PROGRESS = (
    FragmentDone, StatisticsDone, BlocksDone, MatrixDone, RoundDone, WorkerRounds, Checkpoint, Evaluated,
)  # fmt: skip

Values = Mapping[str, float]


class LiveSignals(Protocol):
    """Interface of the source of a run's current efficiency."""

    def take(self, run: str, event: Event) -> None:
        """Applies an event of the run."""

    def values(self, run: str) -> Values:
        """PE and the others, by their alarm names."""
        ...


class AlarmInputs:
    """The quantities of one run.  Events come in any order; `at` is when they arrive, in seconds."""

    def __init__(self, at: float, efficiency: LiveSignals | None = None) -> None:
        """`efficiency`: computes that of the last rounds, for alarms on it."""
        self.run, self.round = "", 0
        self._over = False
        self._progress = at  # time of the last progress
        self._restarts = Restarts()
        self._best: dict[str, float] = {}  # of each metric
        self._limits: dict[str, int] = {}  # of each worker's memory
        self._memory: dict[str, float] = {}  # share of the limit
        self._fresh = False  # whether a worker has sent data since the last tick
        self._efficiency = efficiency

    def take(self, event: Event, at: float) -> Values:
        """Applies an event; returns the values that it reports."""
        if isinstance(event, Started):
            self.run = event.run
        heard = dataclasses.replace(event, time=at)  # the client's clock may be changed meanwhile
        if self._efficiency is not None:
            self._efficiency.take(self.run, heard)
        self._restarts.take(heard)
        told: dict[str, float] = {}
        match event:
            case Placed(workers=workers):
                self._limits = {place.worker: place.memory_limit_nbytes for place in workers}
                self._memory.clear()
            case WorkerRounds():
                self._take_worker(event)
            case WorkerLost(worker=worker):
                self._memory.pop(worker, None)
            case Restarted():
                self._best.clear()  # of rounds that are boosted again; their best may not be reached again for a while
                told["restarts"] = self._restarts.count
            case RoundDone():
                told |= self._round_done(event)
            case Saved() | Failed():
                self._over = True
        if isinstance(event, PROGRESS):
            self._progress = at
            told[NO_PROGRESS] = 0.0
        return told

    def tick(self, at: float) -> Values:
        """The values that are checked periodically."""
        if self._over:
            return {}
        told = {NO_PROGRESS: at - self._progress}
        if self._fresh:
            self._fresh = False
            if self._memory:
                told["memory"] = max(self._memory.values())
            if self._efficiency is not None:
                told |= self._efficiency.values(self.run)
        return told

    def best(self, quantity: str) -> float:
        """The best value of a metric so far."""
        return self._best.get(quantity, math.nan)

    def _take_worker(self, event: WorkerRounds) -> None:
        self._fresh = True
        if limit := self._limits.get(event.worker):
            self._memory[event.worker] = event.memory_nbytes / limit

    def _round_done(self, event: RoundDone) -> dict[str, float]:
        self.round = event.round
        told = {name: value for name, value in event.metrics.items() if math.isfinite(value)}
        for name, value in told.items():
            self._better(name, value)
        if event.metrics and event.best is not None and math.isfinite(event.best):  # in a round that had no event
            self._better(list(event.metrics)[-1], event.best)
        if event.rows_per_second > 0:  # 0: unknown, of a last round whose event is late
            told["rows_per_second"] = event.rows_per_second
        return told

    def _better(self, name: str, value: float) -> None:
        pick = max if rising(name.partition(".")[2]) else min
        self._best[name] = pick(self._best.get(name, value), value)
