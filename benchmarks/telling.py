"""Measures on workers the cost of events of rounds, for `benchmarks.events_cost`."""

import functools
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.training.xgboost import rounds
from pipeline.training.xgboost.rounds import _Rounds

ROUND, WORKER = "_report_round", "_report_worker"  # methods that emit a round's event, and a worker's account
_METHODS: dict[str, Callable[..., None]] = {name: getattr(_Rounds, name) for name in (ROUND, WORKER)}
_spent_seconds = 0.0


def clocked(*, accounts: bool) -> None:
    """Emits an event for every round, and counts from zero the CPU time that events take in the training's thread.

    `accounts`: also each worker's report of its time.
    """
    silent()
    rounds.EVENT_SECONDS = rounds.ACCOUNT_SECONDS = 0.0
    rounds.ACCOUNTS_A_SECOND = math.inf
    for name in (ROUND, WORKER) if accounts else (ROUND,):
        setattr(_Rounds, name, functools.partialmethod(_timed, _METHODS[name]))


def _timed(training: Any, method: Callable[..., None], *arguments: Any) -> None:
    global _spent_seconds
    begin = time.thread_time()
    method(training, *arguments)
    _spent_seconds += time.thread_time() - begin


def silent() -> None:
    """Emits no round events."""
    global _spent_seconds
    _spent_seconds = 0.0
    for name in _METHODS:
        setattr(_Rounds, name, lambda *_: None)


def told_seconds() -> float:
    """Returns the CPU seconds that training threads have spent on events since `clocked`."""
    return _spent_seconds


def loop_seconds() -> float:
    """Returns the CPU seconds of this worker's event loop, which Dask runs in the main thread, since its start."""
    schedstat = Path(f"/proc/self/task/{os.getpid()}/schedstat")
    return int(schedstat.read_text(encoding="ascii").split()[0]) / 1e9
