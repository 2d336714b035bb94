"""The compute part of calibration: small trainings on every worker, and the coefficients that explain them."""

import dataclasses
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.optimize
import scipy.special
import xgboost

from pipeline.cluster.devices import array_namespace, synchronise
from pipeline.efficiency.cost import Shape, Workload, work
from pipeline.efficiency.machine import COEFFICIENTS, Coefficients, Fill
from pipeline.efficiency.synthetic import Synthetic, cuts_of, make_blocks
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
WARMUP, LEAST_ROUNDS, MOST_ROUNDS, FIT_SECONDS = 2, 3, 30, 0.15  # rounds of one fit
EQUAL = 0.05  # workers this close to the typical one count as it: the rest is noise


@dataclass(frozen=True)
class Fit:
    """One training on one worker."""

    rows: int
    features: int
    bins: int
    depth: int
    seconds: float  # useful, of a round
    tree: Shape  # mean of its trees
    splits: tuple[tuple[int, ...], ...]  # nodes of each level that split, for each round after the warm-up


def fit_grid(number: int, threads: int, device: Literal["cpu", "cuda"]) -> list[Fit]:
    """The grid's trainings, on a worker by itself; `number` makes its rows its own."""
    found: list[Fit] = []
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
    tree, splits = _shapes(booster, depth)
    return Fit(rows, matrix.num_col(), total_bins(matrix), depth, statistics.mean(seconds[WARMUP:]), tree, splits)


def _shapes(booster: xgboost.Booster, depth: int) -> tuple[Shape, tuple[tuple[int, ...], ...]]:
    """The mean tree after the warm-up, and every such tree's splits by level.  Rows are told by their hessians."""
    trees = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]["trees"][WARMUP:]
    found = np.zeros((len(trees), depth, 3))  # splits, reach, smaller
    for tree, levels in zip(trees, found, strict=True):
        place: list[int] = []
        weight = tree["sum_hessian"]
        children = zip(tree["parents"], tree["left_children"], tree["right_children"], strict=True)
        for node, (parent, left, right) in enumerate(children):
            place.append(place[parent] + 1 if place else 0)
            if left != -1:
                levels[place[-1]] += 1, weight[node] / weight[0], min(weight[left], weight[right]) / weight[0]
    mean = found.mean(axis=0)[found[:, :, 0].any(axis=0)]
    return Shape(*(tuple(column.tolist()) for column in mean.T)), tuple(
        tuple(int(count) for count in row) for row in found[:, :, 0]
    )


@dataclass(frozen=True)
class Solved:
    """What the fits come to."""

    coefficients: Coefficients
    capabilities: tuple[float, ...]
    fill: Fill
    smaller_child: float
    spread: float


def solve(fits: Sequence[Sequence[Fit]]) -> Solved:
    """Coefficients and capabilities of every worker's fits, in the same order for each."""
    totals = [sum(fit.seconds for fit in own) for own in fits]
    typical = sorted(totals)[(len(totals) - 1) // 2]
    speeds = [typical / total for total in totals]
    speeds = [1.0 if abs(speed - 1) <= EQUAL else speed for speed in speeds]
    trees = [fit.tree for own in fits for fit in own]
    child = sum(sum(tree.smaller) for tree in trees) / sum(sum(tree.reach) for tree in trees)
    amounts = np.array([_work_of(fit) for own in fits for fit in own])
    seconds = np.array([fit.seconds * speed for own, speed in zip(fits, speeds, strict=True) for fit in own])
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = scipy.optimize.nnls(
        amounts / seconds[:, None], np.ones(len(seconds))
    )[0]
    updates = sum(fit.rows * fit.features * fit.depth for fit in fits[0])
    return Solved(
        coefficients=Coefficients(**dict(zip(COEFFICIENTS, map(float, found), strict=True))),
        capabilities=tuple(updates / typical * speed for speed in speeds),
        fill=fill_of([fit for own in fits for fit in own]),
        smaller_child=child,
        spread=float(np.std(amounts @ found / seconds - 1)),
    )


def _work_of(fit: Fit) -> list[float]:
    """The fit's units of work with the trees that it really grew."""
    amounts = work(fit.rows, Workload((fit.rows,), fit.features, fit.bins, fit.depth), fit.tree)
    return [amounts[name] for name in COEFFICIENTS]


def fill_of(fits: Sequence[Fit]) -> Fill:
    """The curve that all trees of the fits follow best."""
    rows = [
        (np.log2(fit.rows) - level, np.log2(1 + WARMUP + number), level, np.log2(fit.features), count / (1 << level))
        for fit in fits
        for number, splits in enumerate(fit.splits)
        for level, count in enumerate(splits)
    ]
    *columns, shares = np.array(rows).T
    known = np.column_stack([np.ones(len(rows)), *columns])

    def residuals(coefficients: np.ndarray) -> np.ndarray:
        return np.asarray(scipy.special.expit(known @ coefficients) - shares)

    start = dataclasses.astuple(Fill())  # the solution here; no other is near
    return Fill(*map(float, scipy.optimize.least_squares(residuals, start).x))
