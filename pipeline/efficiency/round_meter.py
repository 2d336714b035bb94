"""Measures how the time of boosting rounds is spent on each worker, by its own clocks and those of its kernel.

`training.rounds` boosts in a loop of its own, so this is not an xgboost TrainingCallback but a context around the body
of the loop, and a call before it grows trees.  Recorded per round: wall clock, CPU time and run-queue delay of the
training thread, and the bytes that XGBoost wrote to its sockets while it grew trees.

The training thread sleeps while XGBoost's socket thread exchanges histograms, but its CPU time contains the sums of the
exchange, and when it wakes, the socket thread is still on its core: so neither blocked time nor run-queue delay is the
transfer.  The transfer is the time of the same collectives *replayed* after the last round, in the same communicator,
each after a millisecond of computing; of each repetition the time of the rank that arrived last counts (the others wait
for it). Tried on 2 pinned cores, 5 configurations (20 k to 400 k rows, 16 to 128 features, even and 30/70 shares), 3
runs each, all ways of replaying after the same rounds: |u + x + w + o - T| / T was about 2 % in the mean with the
computing, 4 % right after a barrier (up to 10 %); other programs used the cores too.  The reason: a thread that has
just slept is scheduled at once, so without the computing its run-queue delay was a third of that in the rounds, with it
about the same (within a third).
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from pipeline.efficiency import sockets
from pipeline.efficiency.traffic import Call, GrownTree, Growth, ring_nbytes

SPIN_SECONDS = 1e-3  # computed before each replayed collective
LIGHT_SHARE = 0.003  # largest share of the rounds' time for replaying, by default
FULL_REPETITIONS, MOST_REPETITIONS = 12, 8
LARGEST = 1 << 22  # doubles (32 MiB) of a replayed collective; for larger ones the time is scaled in proportion
INTERFERED = 2.0  # times the median: slower repetitions were disturbed by another program

Allreduce = Callable[[np.ndarray], object]
Timing = Callable[[Allreduce, int, int, Callable[[], float]], np.ndarray]  # as `timed`


@dataclass(frozen=True)
class Replay:
    """One size of collective, as timed in the replays: means over the repetitions."""

    elements: int  # doubles
    repetitions: int
    seconds: float  # wall on the rank that arrived last, without the copy of the Python call; the same for all
    cpu_seconds: float  # of this rank's training thread: it sums the segments
    runqueue_seconds: float  # ready, without a core


@dataclass(frozen=True)
class MeterRecord:
    """One worker's rounds; arrays hold a value per round."""

    rank: int
    workers: int
    rows: int  # training rows of this worker
    threads: int
    method: str  # of separating compute from the rest: "thread-cpu", or "wall" where CPU time means nothing (GPU)
    growth: Growth
    trees_per_round: int
    adaptive: int  # see `traffic.calls_of_round`
    wall: np.ndarray  # (rounds,) float64 seconds
    cpu: np.ndarray  # (rounds,) float64 seconds of the training thread
    grown: np.ndarray  # (rounds,) float64 seconds of `cpu` until the trees were grown; the rest is for metrics
    runqueue: np.ndarray  # (rounds,) float64 seconds ready, without a core
    between: np.ndarray  # (rounds,) float64 seconds between the round before and this one
    bytes_sent: np.ndarray | None  # (rounds,) int64, by growing trees; None: the system does not report it
    replays: tuple[Replay, ...]  # by size
    collectives: dict[int, int]  # elements -> number of the metrics' own collectives, in all rounds
    cost_seconds: float  # CPU time of the meter itself, during the rounds
    replay_seconds: float  # duration of the replays
    missing: tuple[str, ...]  # what this system cannot measure
    trees: tuple[tuple[GrownTree, ...], ...] = field(repr=False, default=())  # per round; rank 0, if requested

    @property
    def rounds(self) -> int:
        return len(self.wall)


@dataclass(frozen=True)
class Setting:
    """The training's properties that the meter needs."""

    growth: Growth
    trees_per_round: int
    adaptive: int
    rows: int
    threads: int
    full: bool  # replay every size often, at any cost


@dataclass(frozen=True)
class ResourceUse:
    """Time and bytes of some rounds on one worker."""

    seconds: float  # wall clock, including the time between them
    cpu_seconds: float  # of the training thread
    runqueue_seconds: float  # ready, without a core
    bytes_sent: int | None  # by growing trees; None: the system does not report it


def open_schedstat() -> int | None:
    """Opens the scheduler's account of this thread, seconds on a core and ready for one (Linux); None elsewhere."""
    try:
        return os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
    except OSError:
        return None


def timed(allreduce: Allreduce, elements: int, repetitions: int, runqueue: Callable[[], float]) -> np.ndarray:
    """(repetitions, 3) seconds of an allreduce of so many doubles: wall, CPU, run queue, less the copy Python makes.

    Each follows a little computing; all ranks call it together.  `runqueue` returns this thread's run-queue seconds
    so far.
    """
    values = np.zeros(elements)
    samples: list[tuple[float, float, float]] = []
    copies: list[float] = []
    for _ in range(repetitions + 1):
        spin = time.thread_time() + SPIN_SECONDS
        while time.thread_time() < spin:
            pass
        start = time.perf_counter()
        values.copy()
        copied = time.perf_counter() - start
        queued, cpu, start = runqueue(), time.thread_time(), time.perf_counter()
        allreduce(values)
        wall, cpu = time.perf_counter() - start, time.thread_time() - cpu
        samples.append((wall, cpu, runqueue() - queued))
        copies.append(copied)
    # The first runs with cold memory.  The least of the copies: one that was interrupted must not make an exchange free.
    copy = min(copies)
    return np.maximum(0.0, np.array(samples[1:]) - (copy, copy, 0.0))


class Meter:
    """Records the rounds of one worker; `allreduce` is None where it trains alone."""

    def __init__(
        self,
        setting: Setting,
        rank: int,
        workers: int,
        allreduce: Allreduce | None,
        traffic: sockets.Traffic,
        schedstat: Callable[[], int | None] = open_schedstat,
    ) -> None:
        self._setting, self._rank, self._workers = setting, rank, workers
        self._allreduce, self._traffic = allreduce, traffic
        self._schedstat = schedstat()
        self._rows: list[tuple[float, float, float, float, float]] = []
        self._grown: float | None = None  # CPU clock when this round's trees were grown
        self._sent: list[int] = []  # bytes, by round
        self._unsettled: int | None = None  # bytes written before the last round, until its own are read
        self._last_end: float | None = None
        self._cost = 0.0
        self._collectives: dict[int, int] = {}
        self._replays: tuple[Replay, ...] = ()
        self._replay_seconds = 0.0

    @property
    def wants_trees(self) -> bool:
        """Whether the shapes of trees are needed: requested, or necessary because bytes are not counted."""
        return self._setting.full or (self._workers > 1 and self._traffic.connection is None)

    @contextlib.contextmanager
    def round(self) -> Iterator[None]:
        """Context around one whole round: trees and metrics."""
        enter, begin = time.perf_counter(), time.thread_time()
        runqueue, cpu = self._runqueue(), time.thread_time()
        between = 0.0 if self._last_end is None else enter - self._last_end
        self._cost += cpu - begin
        yield
        end = time.thread_time()
        grown, self._grown = (end if self._grown is None else self._grown) - cpu, None
        cpu, runqueue = end - cpu, self._runqueue() - runqueue
        self._last_end = time.perf_counter()
        self._cost += time.thread_time() - end
        self._rows.append((self._last_end - enter, cpu, runqueue, between, grown))

    def trees(self) -> None:
        """Called before a round grows its trees: bytes sent from here until the next call, or `settle`, are attributed
        to them.

        If a round exchanges nothing else, each counter is read once: after a round its data have left the
        caches, and the first read takes 30 to 60 us, a second 3 us (benchmarks/meter_cost.py).
        """
        if self._traffic.connection is not None:
            self._unsettled = self._count()

    def measuring(self) -> None:
        """Called before a round's metrics: there the peers wait for each other again, for work that is distributed
        differently.
        """
        self._grown = time.thread_time()
        self.settle()

    def settle(self) -> None:
        """Called before any collective that does not grow trees."""
        if self._unsettled is not None:
            self._count()

    def _count(self) -> int:
        """Bytes written so far; those since the last round began to grow its trees are counted as its own."""
        begin = time.thread_time()
        written = self._traffic.written()
        if self._unsettled is not None:
            self._sent.append(written - self._unsettled)
            self._unsettled = None
        self._cost += time.thread_time() - begin
        return written

    def spent(self, first: int) -> ResourceUse:
        """Time and bytes of the rounds recorded here, from the `first` one on (0: all); the last one's bytes may be
        missing.
        """
        rows = np.array(self._rows[first:], dtype=np.float64).reshape(-1, 5)
        wall, cpu, runqueue, between, _ = rows.sum(axis=0).tolist()
        known = self._allreduce is None or self._traffic.connection is not None
        return ResourceUse(wall + between, cpu, runqueue, sum(self._sent[first:]) if known else None)

    def collective(self, elements: int) -> None:
        """Records a sum over the workers of this many doubles, made by a metric."""
        if self._allreduce is not None:
            self._collectives[elements] = self._collectives.get(elements, 0) + 1

    def replay(self, measure: Timing = timed) -> None:
        """Times the rounds' collectives again; all ranks call it together, after the last round."""
        if self._allreduce is None or self._setting.growth.device != "cpu" or not self._rows:
            return
        self.settle()
        start = time.perf_counter()
        sizes, repetitions = self._plan(self._allreduce)
        samples = np.array([measure(self._allreduce, size, repetitions, self._runqueue) for size in sizes])
        least = self._least(self._allreduce, samples[:, :, 0])
        self._replays = tuple(_replay(*parts) for parts in zip(sizes, samples, least, strict=True))
        self._replay_seconds = time.perf_counter() - start

    def record(self, trees: tuple[tuple[GrownTree, ...], ...] = ()) -> MeterRecord:
        self.settle()
        columns = np.array(self._rows, dtype=np.float64).reshape(-1, 5)
        setting, cpu_tells = self._setting, self._setting.growth.device == "cpu"
        alone = self._allreduce is None
        missing = [] if alone or not self._traffic.missing else [self._traffic.missing]
        if self._schedstat is None:
            missing.append("run-queue delay (no schedstat)")
        if not alone and not cpu_tells:
            missing.append("transfer and waiting on a GPU")
        known = self._traffic.connection is not None
        return MeterRecord(
            rank=self._rank,
            workers=self._workers,
            rows=setting.rows,
            threads=setting.threads,
            method="thread-cpu" if cpu_tells else "wall",
            growth=setting.growth,
            trees_per_round=setting.trees_per_round,
            adaptive=setting.adaptive,
            wall=columns[:, 0],
            cpu=columns[:, 1],
            runqueue=columns[:, 2],
            between=columns[:, 3],
            grown=columns[:, 4],
            bytes_sent=np.array(self._sent, dtype=np.int64) if known else None,
            replays=self._replays,
            collectives=dict(self._collectives),
            cost_seconds=self._cost,
            replay_seconds=self._replay_seconds,
            missing=tuple(missing),
            trees=trees,
        )

    def close(self) -> None:
        self._traffic.close()
        if self._schedstat is not None:
            os.close(self._schedstat)
            self._schedstat = None

    def _runqueue(self) -> float:
        if self._schedstat is None:
            return 0.0
        return int(os.pread(self._schedstat, 128, 0).split()[1]) / 1e9

    def _least(self, allreduce: Allreduce, seconds: np.ndarray) -> np.ndarray:
        """The elementwise minimum over all ranks."""
        everyone = np.zeros((self._workers, *seconds.shape))
        everyone[self._rank] = seconds
        return np.asarray(allreduce(everyone)).min(axis=0)

    def _plan(self, allreduce: Allreduce) -> tuple[list[int], int]:
        """The sizes to replay and how often: rank 0 decides, because all ranks must do the same."""
        largest = max(self._collectives, default=0)
        if self._setting.full:
            return sorted({2, *_exchanges(self._setting.growth), largest} - {0}), FULL_REPETITIONS
        mean = self._mean_exchange()
        sizes = sorted({2, mean, largest} - {0})
        spent = sum(row[0] for row in self._rows)
        once = len(sizes) * (SPIN_SECONDS + 2e-4) + sum(sizes) * 4e-9  # about the time of a memory-bound ring
        asked = min(MOST_REPETITIONS, max(1, round(LIGHT_SHARE * spent / once)))
        chosen = np.array([float(asked), float(mean)]) * (self._rank == 0)
        agreed = np.asarray(allreduce(chosen))
        return sorted({2, int(agreed[1]), largest} - {0}), int(agreed[0])

    def _mean_exchange(self) -> int:
        """Elements of the rounds' average exchange of histograms."""
        one = Call(2 * self._setting.growth.bins)
        sent = sum(self._sent) / len(self._rows) / self._setting.trees_per_round
        histograms = sent / ring_nbytes(one, self._workers, self._rank) if sent else 1.0
        mean = round(one.elements * histograms / exchanges_of_tree(self._setting.growth, histograms))
        return min(LARGEST, max(2, mean))


def undisturbed(seconds: np.ndarray) -> np.ndarray:
    """Which repetitions were not disturbed by other programs: those within `INTERFERED` times the median."""
    kept: np.ndarray = seconds <= INTERFERED * np.median(seconds)
    return kept


def _replay(elements: int, samples: np.ndarray, least: np.ndarray) -> Replay:
    """Means over the undisturbed repetitions; `least` (repetitions,) wall seconds of the rank that arrived last."""
    kept = undisturbed(least)
    wall, cpu, queued = float(least[kept].mean()), *samples[kept, 1:].mean(axis=0)
    return Replay(elements, int(kept.sum()), wall, float(cpu), float(queued))


def _exchanges(growth: Growth) -> list[int]:
    """Doubles of a histogram exchange: of one node, of two, of four, up to the largest level's."""
    depth = growth.depth or 8
    sizes = [2 * growth.bins << level for level in range(min(max(depth - 1, 1), 9))]
    return [size for size in sizes if size <= LARGEST] or [min(sizes[0], LARGEST)]


def exchanges_of_tree(growth: Growth, histograms: float) -> float:
    """The number of allreduces for this many histograms of one tree: one a level, or one each."""
    return histograms if growth.policy == "lossguide" or not growth.depth else float(max(1, growth.depth))
