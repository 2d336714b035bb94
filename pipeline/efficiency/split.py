"""Splits the workers' meter readings into u, x, w and o: pure arithmetic.

Each is measured independently, none as the remainder of the others: u is CPU time of the training thread less that of
the replayed collectives, x the replayed collectives' wall clock, w the peers' longer work on the peers' clocks
(separately for growing trees and for metrics: one worker may have more training rows, another more validation rows, and
then both wait, in turn), o run-queue delay beyond what the collectives cause, and the time between rounds.  The
difference between their sum and the wall clock is the closure error.

`VARIES_SECONDS` was chosen on 20 runs (the configurations of `meter`, load about 2 on 2 cores): closure 1.3 % in the
mean and 3.5 % at worst there, against 1.7 % and 5.1 % with a step at twice the collectives' own delay.  With a load of
4 and more on the 2 cores it was 3 to 7 % in the median and 20 to 30 % at worst: then XGBoost's socket thread waits for
a core too, which no clock here sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.efficiency.records import TimeSplit, WorkerSample
from pipeline.efficiency.round_meter import MeterRecord, exchanges_of_tree
from pipeline.efficiency.traffic import Call, calls_of_round, ring_nbytes, sent_nbytes

VARIES_SECONDS = 5e-4  # of a round's run-queue delay, on otherwise idle cores; what is beyond is due to another program


@dataclass(frozen=True)
class _Own:
    """One worker's own measurements of its rounds; arrays hold a value per round."""

    work: (
        np.ndarray
    )  # (2, rounds) seconds until it was ready for its peers, trees and metrics; including delays it did not cause
    useful: np.ndarray
    transfer: np.ndarray
    delay: np.ndarray
    method: str


def worker_samples(
    records: Sequence[MeterRecord], names: Sequence[str], first: int = 0, reference: float | None = None
) -> tuple[WorkerSample, ...]:
    """How each worker's time was spent in the rounds from number `first` (counted from 0) on, by rank.

    `reference`: seconds of a one-worker round on the same rows, which on GPUs replaces the useful time
    ("differential"): the thread's CPU time does not measure it.
    """
    trees = next((record.trees for record in records if record.trees), ())
    ranked = [replace(record, trees=trees) for record in sorted(records, key=lambda record: record.rank)]
    owns = [_own(record, first, reference) for record in ranked]
    latest = np.max([own.work for own in owns], axis=0)
    return tuple(
        _sample(record, own, latest, name, first) for record, own, name in zip(ranked, owns, names, strict=True)
    )


def seconds_of(record: MeterRecord, first: int = 0) -> float:
    """A worker's seconds from the start of round `first` (counted from 0) to the end of the last."""
    return float(record.wall[first:].sum() + record.between[first + 1 :].sum())


def _own(record: MeterRecord, first: int, reference: float | None) -> _Own:
    wall, cpu = record.wall[first:], record.cpu[first:]
    nothing = np.zeros_like(wall)
    if record.method != "thread-cpu":
        useful = wall if reference is None else np.minimum(wall, reference)
        method = "wall" if reference is None else "differential"
        work = np.stack([useful, nothing])
        return _Own(work=work, useful=useful, transfer=wall - useful, delay=nothing, method=method)
    if record.workers == 1:
        # No exchange: while off the CPU, the thread waits for a core, or for OpenMP threads that wait for one.
        work, delay = np.stack([cpu, nothing]), np.maximum(record.runqueue[first:], wall - cpu)
        return _Own(work=work, useful=cpu, transfer=nothing, delay=delay, method=record.method)
    trees, metrics = _collectives(record, first)
    seconds, busy, queued = trees + metrics
    useful = np.maximum(0.0, cpu - busy)
    delay = np.maximum(0.0, record.runqueue[first:] - queued - VARIES_SECONDS)
    measuring = np.clip(cpu - record.grown[first:] - metrics[1], 0.0, useful)
    work = np.stack([useful - measuring + delay, measuring])
    return _Own(work=work, useful=useful, transfer=seconds, delay=delay, method=record.method)


def _collectives(record: MeterRecord, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Wall, CPU and run-queue seconds of each round's collectives, from the replays of their sizes.

    (3, rounds) of those that grow trees; (3, 1) of those for metrics, the mean over all rounds.
    """
    rounds = record.rounds - first
    sizes = [replay.elements for replay in record.replays]
    columns = np.array(
        [(replay.seconds, replay.cpu_seconds, replay.runqueue_seconds) for replay in record.replays]
    ).reshape(-1, 3)
    if not sizes:
        return np.zeros((3, rounds)), np.zeros((3, 1))

    def cost(elements: float) -> np.ndarray:
        inside = np.array([np.interp(elements, sizes, column) for column in columns.T])
        return inside * max(1.0, elements / sizes[-1])

    metrics = sum((count * cost(size) for size, count in record.collectives.items()), np.zeros(3)) / record.rounds
    if record.trees:
        per_round = [
            sum((cost(call.elements) for call in calls_of_round(record.growth, trees, record.adaptive)), np.zeros(3))
            for trees in record.trees[first:]
        ]
        return np.array(per_round).T, metrics[:, None]
    histogram = 2 * record.growth.bins
    one_nbytes = ring_nbytes(Call(histogram), record.workers, record.rank)
    sent = record.bytes_sent[first:] if record.bytes_sent is not None else np.full(rounds, one_nbytes)
    histograms = sent / one_nbytes / record.trees_per_round
    table = []
    for count in histograms:
        exchanges = exchanges_of_tree(record.growth, count)
        tree = cost(2) + exchanges * cost(histogram * count / max(1.0, exchanges))
        table.append(record.trees_per_round * tree + (cost(record.adaptive + 1) if record.adaptive else 0.0))
    return np.array(table).T, metrics[:, None]


def _sample(record: MeterRecord, own: _Own, latest: np.ndarray, name: str, first: int) -> WorkerSample:
    rounds = max(1, record.rounds - first)
    seconds = seconds_of(record, first)
    told_apart = own.method == "thread-cpu" and bool(record.workers == 1 or record.replays)
    split = TimeSplit(
        useful=float(own.useful.sum()) / rounds,
        transfer=float(own.transfer.sum()) / rounds,
        wait=float((latest - own.work).sum()) / rounds if told_apart else 0.0,
        other=float(own.delay.sum() + record.between[first + 1 :].sum()) / rounds,
    )
    total = split.useful + split.transfer + split.wait + split.other
    return WorkerSample(
        rank=record.rank,
        worker=name,
        seconds=seconds / rounds,
        split=split,
        closure=abs(total * rounds - seconds) / max(seconds, 1e-12) if told_apart else None,
        bytes_sent=None if record.bytes_sent is None else int(record.bytes_sent[first:].sum()),
        bytes_expected=_expected(record, first) if record.trees else None,
        meter_share=record.cost_seconds / max(float(record.wall.sum()), 1e-12),
        method=own.method,
        missing=record.missing,
    )


def _expected(record: MeterRecord, first: int) -> int:
    """Bytes that this rank sends for the trees that were built."""
    return sum(
        sent_nbytes(calls_of_round(record.growth, trees, record.adaptive), record.workers, record.rank)
        for trees in record.trees[first:]
    )
