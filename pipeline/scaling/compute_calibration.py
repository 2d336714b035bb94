"""Calibrates compute: small trainings on every worker, and the coefficients that explain their times."""

import dataclasses
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
from pipeline.config.encoding import ENCODING
from pipeline.efficiency.cost import TreeShape, Workload, work
from pipeline.efficiency.machine import COEFFICIENTS, Coefficients
from pipeline.runtime.task_errors import task
from pipeline.scaling.synthetic import Synthetic, cuts_of, make_blocks
from pipeline.training.xgboost.booster_probe import total_bins
from pipeline.training.xgboost.matrix import build_partition

Grid = Sequence[tuple[int, int, int, Sequence[int]]]
GRID: Grid = (  # rows, features, bins of each, depths: histograms in and out of caches, nodes full of rows and nearly empty
    (20_000, 8, 253, (4, 7, 10)),
    (20_000, 32, 253, (5, 9)),
    (10_000, 128, 253, (4, 7)),
    (100_000, 32, 253, (4, 7)),
    (60_000, 128, 253, (4, 7)),
    (200_000, 16, 253, (5, 7)),
    (600_000, 8, 253, (4, 7)),
    (60_000, 32, 24, (4, 8)),  # few bins: the cost of a feature per node, apart from its bins
)
WARMUP, LEAST_ROUNDS, MOST_ROUNDS, FIT_SECONDS = 2, 3, 30, 0.15  # rounds of one fit
TYPICAL = Coefficients(  # one thread of a Xeon of 2023 (Sapphire Rapids, 2 MB near each core), 120 fits
    row_feature=0.414e-9, row_feature_doubling=0.14e-9, row_built=6.67e-9, row_split=3.175e-9,
    row_split_doubling=0.81e-9, row=1.4e-9, bin_node=5.3e-9, bin_node_wide=1.456e-9, bin_node_filled=3.292e-9,
    bin_node_far=2.717e-9, feature_node=77.6e-9, tree=54.7e-6,
)  # fmt: skip
DRAWN = 0.2  # strength of the pull to TYPICAL: fit errors of 5 % weigh as much as coefficients off by 25 %
EQUAL = 0.05  # workers this close to the typical one are treated as typical: the rest is noise
QUIET_DELAY = (
    0.1  # of the useful time; on cores of their own threads wait 0.015 to 0.025 of it, the rest is due to others
)


@dataclass(frozen=True)
class Fit:
    """One training on one worker."""

    rows: int
    features: int
    bins: int
    depth: int
    seconds: float  # useful, of a round
    tree: TreeShape  # mean of its trees
    delay: float = 0.0  # wall over useful seconds, less 1
    jitter: float = 0.0  # standard deviation of the rounds' useful seconds about their trend, as a share


@task
def fit_grid(number: int, threads: int, device: Literal["cpu", "cuda"], grid: Grid = GRID) -> list[Fit]:
    """Runs the grid's trainings on one worker by itself; `number` gives the worker rows of its own."""
    found: list[Fit] = []
    with xgboost.config_context(nthread=threads, verbosity=0):
        for rows, features, bins, depths in grid:
            data = Synthetic(rows=rows, features=features, bins=bins)
            blocks = make_blocks(data, number * rows, (number + 1) * rows)
            partition = build_partition(blocks, cuts_of(data), data.names, threads=threads, xp=array_namespace(device))
            found.extend(_fit(partition.train.matrix, rows, depth, threads, device) for depth in depths)
    return found


def _fit(matrix: xgboost.DMatrix, rows: int, depth: int, threads: int, device: Literal["cpu", "cuda"]) -> Fit:
    params = {
        "objective": "binary:logistic", "base_score": 0.5, "max_depth": depth, "nthread": threads,
        "device": device, "max_bin": ENCODING.codes,
    }  # fmt: skip
    booster = xgboost.Booster(params, [matrix])
    # a CPU's training thread computes whenever it is busy; a GPU's only waits
    clock = time.thread_time if device == "cpu" else time.perf_counter
    seconds: list[float] = []
    walls: list[float] = []
    begin = time.perf_counter()
    for number in range(WARMUP + MOST_ROUNDS):
        wall, start = time.perf_counter(), clock()
        booster.update(matrix, number)
        synchronise(device)
        seconds.append(clock() - start)
        walls.append(time.perf_counter() - wall)
        if number + 1 == WARMUP:
            begin = time.perf_counter()
        if number + 1 >= WARMUP + LEAST_ROUNDS and time.perf_counter() - begin > FIT_SECONDS:
            break
    return Fit(
        rows, matrix.num_col(), total_bins(matrix), depth, statistics.mean(seconds[WARMUP:]),
        _mean_tree(booster, depth), max(0.0, sum(walls[WARMUP:]) / sum(seconds[WARMUP:]) - 1), _jitter(seconds[WARMUP:]),
    )  # fmt: skip


def _jitter(seconds: Sequence[float]) -> float:
    """From the differences of adjacent rounds, which a trend (trees shrink) hardly changes: their median size over
    0.954.
    """
    return float(np.median(np.abs(np.diff(seconds)))) / 0.954 / statistics.mean(seconds)


def _mean_tree(booster: xgboost.Booster, depth: int) -> TreeShape:
    """The mean tree of the rounds after the warm-up.  Row counts are inferred from hessians, which differ little."""
    trees = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]["trees"][WARMUP:]
    found = np.zeros((depth, 3))  # splits, reach, smaller
    for tree in trees:
        level: list[int] = []
        weight = tree["sum_hessian"]
        children = zip(tree["parents"], tree["left_children"], tree["right_children"], strict=True)
        for node, (parent, left, right) in enumerate(children):
            level.append(level[parent] + 1 if level else 0)
            if left != -1:
                found[level[-1]] += 1, weight[node] / weight[0], min(weight[left], weight[right]) / weight[0]
    grown = found[found[:, 0] > 0] / len(trees)
    return TreeShape(*(tuple(column.tolist()) for column in grown.T))


@dataclass(frozen=True)
class FitResult:
    """The result of the fits."""

    coefficients: Coefficients
    capabilities: tuple[float, ...]
    typical: float  # capability of the worker that the coefficients describe
    spread: float
    delay: float  # of the useful time, without the share of other programs
    jitter: float
    busy: float = 1.0  # how many times as long the fits took as on a quiet machine


def solve(
    fits: Sequence[Sequence[Fit]], typical: Coefficients | None = TYPICAL, *, oversubscribed: bool = False
) -> FitResult:
    """Coefficients and capabilities from every worker's fits, in the same order for each.

    `oversubscribed`: the workers have more threads than there are cores, so that waiting for a core is a permanent part
    of their time; else delay beyond `QUIET_DELAY` is attributed to other programs, which come and go (`FitResult.busy`).
    Non-negative least squares of relative errors.  Several terms grow together over so few fits; what the fits do not
    determine is pulled towards the proportions of `typical`, times the speed of these workers.
    """
    totals = [sum(fit.seconds for fit in own) for own in fits]
    middle = sorted(totals)[(len(totals) - 1) // 2]
    speeds = [middle / total for total in totals]
    speeds = [1.0 if abs(speed - 1) <= EQUAL else speed for speed in speeds]
    amounts = np.array([_work_of(fit) for own in fits for fit in own])
    seconds = np.array([fit.seconds * speed for own, speed in zip(fits, speeds, strict=True) for fit in own])
    rows, ones = amounts / seconds[:, None], np.ones(len(seconds))
    if typical is not None:
        expected = np.array(dataclasses.astuple(typical))
        expected *= np.median(1 / (rows @ expected))
        rows, ones = np.vstack([rows, DRAWN * np.diag(1 / expected)]), np.append(ones, np.full(len(expected), DRAWN))
    found, _ = scipy.optimize.nnls(rows, ones)
    updates = sum(fit.rows * fit.features * fit.depth for fit in fits[0])
    measured = float(np.median([fit.delay for own in fits for fit in own]))
    delay = measured if oversubscribed else min(measured, QUIET_DELAY)
    return FitResult(
        coefficients=Coefficients(**dict(zip(COEFFICIENTS, map(float, found), strict=True))),
        capabilities=tuple(updates / middle * speed for speed in speeds),
        typical=updates / middle,
        spread=float(np.std(amounts @ found / seconds - 1)),
        delay=delay,
        jitter=float(np.median([fit.jitter for own in fits for fit in own])),
        busy=(1 + measured) / (1 + delay),
    )


def _work_of(fit: Fit) -> list[float]:
    """The fit's units of work with the trees that it grew."""
    amounts = work(fit.rows, Workload((fit.rows,), fit.features, fit.bins, fit.depth), fit.tree)
    return [amounts[name] for name in COEFFICIENTS]
