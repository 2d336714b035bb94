"""What the meter brings home from one worker: the stamps of every round, and collectives played again after them."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pipeline.efficiency.traffic import Grown, Growth

Method = Literal["thread-cpu", "wall only"]


@dataclass(frozen=True)
class Replay:
    """One size of allreduce, played again after the rounds in the same communicator: means over the repetitions."""

    elements: int  # float64
    seconds: float  # wall, the copies below included
    cpu_seconds: float  # of the training thread: it sums the segments; copies included
    runqueue_seconds: float  # that the training thread was ready and not running
    copy_seconds: float  # wall and CPU: Python's allreduce copies its array, XGBoost's own rounds do not
    repetitions: int


@dataclass(frozen=True)
class MeterRecord:
    """One worker's rounds by its own clocks; seconds.  Arrays have a value per boosted round."""

    rank: int
    workers: int  # that trained together
    worker: str  # Dask's name or address of it
    rows: int  # training rows here
    features: int
    threads: int
    method: Method  # how useful time is told from the rest
    growth: Growth  # with it the number of bins
    wall: np.ndarray  # of the round: boosting, and measuring its metrics
    update_wall: np.ndarray  # of boosting alone
    cpu: np.ndarray  # thread CPU of the round; NaN with "wall only"
    runqueue: np.ndarray  # run-queue delay of the training thread in the round; NaN where the system does not tell
    between: np.ndarray  # from the end of the round before to the begin of this one; the first: 0
    bytes_sent: np.ndarray | None  # int64, by XGBoost's sockets while boosting; None: the system does not tell
    extra_elements: tuple[int, ...]  # sizes of the collectives that the round's metrics took
    extra_calls: np.ndarray  # (rounds, sizes) int64: how many of each
    adaptive: int = 0  # outputs of an objective that sets its leaves anew, see `traffic.calls_of_round`
    trees: tuple[tuple[int, tuple[Grown, ...]], ...] = ()  # (round from 0, its trees): all of them, or a few; rank 0's
    replays: tuple[Replay, ...] = ()  # by rising size; empty for one worker
    cost_seconds: float = 0.0  # that the meter itself took in the rounds
    replay_seconds: float = 0.0  # that the replays took after them
    missing: tuple[str, ...] = field(default=())  # what this system could not measure, in words

    @property
    def rounds(self) -> int:
        return len(self.wall)

    @property
    def seconds(self) -> np.ndarray:
        """(rounds,) T of each round on this worker: the round, and the time since the one before."""
        seconds: np.ndarray = self.wall + self.between
        return seconds

    @property
    def meter_share(self) -> float:
        """Of the time, that the meter itself took, the replays included."""
        return (self.cost_seconds + self.replay_seconds) / max(1e-9, float(self.seconds.sum()))
