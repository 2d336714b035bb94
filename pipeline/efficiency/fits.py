"""The compute part of calibration: small trainings on every worker, and the coefficients that explain them."""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.optimize
import xgboost

from pipeline.cluster.devices import array_namespace, synchronise
from pipeline.efficiency.cost import Workload, work
from pipeline.efficiency.machine import COEFFICIENTS, Coefficients
from pipeline.efficiency.synthetic import Synthetic, cuts_of, make_blocks
from pipeline.efficiency.traffic import Grown
from pipeline.training.matrix import build_partition
from pipeline.training.metering import total_bins

GRID = (  # (rows, features, depths): histograms in and out of the caches, nodes full of rows and nearly empty ones
    (20_000, 8, (4, 7, 10)),
    (20_000, 32, (5, 9)),
    (10_000, 128, (4, 7, 9)),
    (100_000, 32, (4, 7, 10)),
    (80_000, 128, (4, 6, 8)),
    (200_000, 16, (5, 7)),
    (600_000, 8, (4, 7)),
)
WARMUP, LEAST_ROUNDS, MOST_ROUNDS, FIT_SECONDS = 2, 3, 20, 0.12  # rounds of one fit
EQUAL = 0.05  # workers this close to the typical one count as it: the rest is noise


@dataclass(frozen=True)
class Fit:
    """One training on one worker."""

    rows: int
    features: int
    bins: int
    depth: int
    seconds: float  # useful, of a round
    splits: tuple[float, ...]  # nodes that split, by level, means over the trees
    smaller: tuple[float, ...]  # share of the rows that went to the smaller children, by level


def fit_grid(number: int, threads: int, device: Literal["cpu", "cuda"]) -> list[Fit]:
    """The grid's trainings, on a worker by itself; `number` makes its rows its own."""
    found = []
    with xgboost.config_context(nthread=threads, verbosity=0):
        for rows, features, depths in GRID:
            data = Synthetic(rows=rows, features=features)
            blocks = make_blocks(data, number * rows, (number + 1) * rows)
            partition = build_partition(blocks, cuts_of(data), data.names, threads=threads, xp=array_namespace(device))
            found.extend(_fit(partition.train.matrix, rows, depth, threads, device) for depth in depths)
    return found


def _fit(matrix: xgboost.QuantileDMatrix, rows: int, depth: int, threads: int, device: Literal["cpu", "cuda"]) -> Fit:
    params = {
        "objective": "binary:logistic", "base_score": 0.5, "max_depth": depth, "nthread": threads,
        "device": device, "max_bin": 256,
    }  # fmt: skip
    booster = xgboost.Booster(params, [matrix])
    # a CPU's training thread computes whenever it is busy; a GPU's only waits for it
    clock = time.thread_time if device == "cpu" else time.perf_counter
    seconds: list[float] = []
    begin = time.perf_counter()
    for number in range(WARMUP + MOST_ROUNDS):
        start = clock()
        booster.update(matrix, number)
        synchronise(device)
        seconds.append(clock() - start)
        if number + 1 == WARMUP:
            begin = time.perf_counter()
        if number + 1 >= WARMUP + LEAST_ROUNDS and time.perf_counter() - begin > FIT_SECONDS:
            break
    splits, smaller = _shape(booster)
    return Fit(rows, matrix.num_col(), total_bins(matrix), depth, statistics.median(seconds[WARMUP:]), splits, smaller)


def _shape(booster: xgboost.Booster) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """By level: nodes that split, and the share of all rows that went to the smaller children."""
    trees = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]["trees"][WARMUP:]
    deepest = 64
    splits, smaller = np.zeros(deepest), np.zeros(deepest)
    for tree in trees:
        depth: list[int] = []
        weight = tree["sum_hessian"]
        children = zip(tree["parents"], tree["left_children"], tree["right_children"], strict=True)
        for parent, left, right in children:
            depth.append(depth[parent] + 1 if depth else 0)
            if left != -1:
                splits[depth[-1]] += 1
                smaller[depth[-1]] += min(weight[left], weight[right]) / weight[0]
    levels = int(np.count_nonzero(splits))
    return tuple(splits[:levels] / len(trees)), tuple(smaller[:levels] / len(trees))


@dataclass(frozen=True)
class Solved:
    """What the fits come to."""

    coefficients: Coefficients
    capabilities: tuple[float, ...]
    fill: tuple[tuple[float, float], ...]
    smaller_child: float
    spread: float


def solve(fits: Sequence[Sequence[Fit]]) -> Solved:
    """Coefficients and capabilities of every worker's fits, in the same order for each."""
    totals = [sum(fit.seconds for fit in own) for own in fits]
    typical = sorted(totals)[(len(totals) - 1) // 2]
    speeds = [typical / total for total in totals]
    speeds = [1.0 if abs(speed - 1) <= EQUAL else speed for speed in speeds]
    child = float(np.mean([share for own in fits for fit in own for share in fit.smaller[: fit.depth - 1]]))
    amounts = np.array([_work_of(fit, child) for own in fits for fit in own])
    seconds = np.array([fit.seconds * speed for own, speed in zip(fits, speeds, strict=True) for fit in own])
    found: np.ndarray = scipy.optimize.nnls(amounts / seconds[:, None], np.ones(len(seconds)))[0]
    updates = sum(fit.rows * fit.features * fit.depth for fit in fits[0])
    return Solved(
        coefficients=Coefficients(**dict(zip(COEFFICIENTS, map(float, found), strict=True))),
        capabilities=tuple(updates / typical * speed for speed in speeds),
        fill=fill_of([fit for own in fits for fit in own]),
        smaller_child=child,
        spread=float(np.std(amounts @ found / seconds - 1)),
    )


def _work_of(fit: Fit, smaller_child: float) -> list[float]:
    """The fit's units of work with the trees that it really grew."""
    workload = Workload((fit.rows,), fit.features, fit.bins, fit.depth)
    tree = Grown(tuple(max(1, round(count)) for count in fit.splits))
    own = float(np.mean(fit.smaller[: fit.depth - 1])) if fit.depth > 1 else smaller_child
    amounts = work(fit.rows, workload, tree, own)
    return [amounts[name] for name in COEFFICIENTS]


def fill_of(fits: Sequence[Fit]) -> tuple[tuple[float, float], ...]:
    """Share of a level's possible nodes that split, by log2 of the rows per node: rising with it, 1 at the end."""
    seen: dict[int, list[float]] = {}
    for fit in fits:
        for level, count in enumerate(fit.splits[: fit.depth]):
            place = round(float(np.log2(fit.rows / (1 << level))))
            seen.setdefault(place, []).append(count / (1 << level))
    means = [float(np.mean(seen[place])) for place in sorted(seen)]
    rising = np.minimum(1.0, np.maximum.accumulate(means))
    return tuple((float(place), float(share)) for place, share in zip(sorted(seen), rising, strict=True))
