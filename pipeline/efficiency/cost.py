"""Implements the analytic model: predicts the seconds of a round on each worker.  Pure arithmetic.

    T(N) = max_i (u_i + o_i) + late + sum over a round's collectives of T_ar
    x_i = the sum of T_ar, w_i = what the others are later, C_i = x_i + w_i + o_i

u_i is linear in counts of work (`work`) with coefficients that calibration fits.  The split evaluation (`bin_node`) is
repeated on every worker: it is the model's Amdahl term, and with few rows it dominates.  T_ar comes from a table
measured in a real communicator, or from the ring's formula (Thakur, Rabenseifner and Gropp, IJHPCA 19(1), 2005) with
the redundant step of XGBoost's ring: T_ar(n) = (2N-1) alpha + ((2N-1)/N) n beta.
"""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.efficiency.definitions import figures, parallel_efficiency
from pipeline.efficiency.machine import CACHED_NBYTES, NEAR_NBYTES, REACHED_NBYTES, Fill, Machine
from pipeline.efficiency.records import Configuration, Prediction, TimeSplit
from pipeline.efficiency.traffic import Call, GrownTree, Growth, calls_of_round, full_tree, sent_nbytes

BIN_NBYTES = 16  # a histogram's bin: two doubles
ROW_NBYTES = 16  # moved for a row of a node: gradient and hessian, and its place in the matrix
CHUNK = 2048  # leaves at which a tree without limits is assumed to end
FILLING = 4  # rows of a node for each bin of a feature, at which nearly every bin is filled
SHARE_TO_ROWS = 0.03  # splitting nodes are the large ones: where a fifth of them splits, it holds 95 % of the rows
SAMPLED_ROUNDS = 16  # from which the mean tree is computed
FILL = Fill()
REPLICATED = ("bin_node", "bin_node_wide", "bin_node_filled", "bin_node_far", "feature_node", "tree")
LEAST_SPLITS = 0.5  # of a level, on average; below, the trees have ended
BAND = 1.96  # standard deviations around T: 95 %


@dataclass(frozen=True)
class Workload:
    """The training's properties that determine the time of a round."""

    rows: tuple[int, ...]  # training rows of each worker, rank 0 first
    features: int
    bins: int  # of all features together: categories and few values count with their actual number
    depth: int  # 0: no limit
    growth: Literal["depthwise", "lossguide"] = "depthwise"
    max_leaves: int = 0  # 0: no limit
    trees_per_round: int = 1  # one tree for each class or quantile
    column_share: float = 1.0  # reduces split evaluation only: histograms cover all features
    row_share: float = 1.0  # saves no time: omitted rows have weight 0 and are still visited
    adaptive: int = 0  # see `traffic.calls_of_round`
    device: Literal["cpu", "cuda"] = "cpu"
    rounds: tuple[int, int] = (2, 32)  # the first one that counts, and the one after the last: later trees split less

    @property
    def workers(self) -> int:
        return len(self.rows)

    @property
    def total_rows(self) -> int:
        return sum(self.rows)

    @property
    def tree_growth(self) -> Growth:
        return Growth(self.bins, self.depth, self.max_leaves, self.growth, self.device)

    def on(self, workers: int, rows: int) -> "Workload":
        """The same with this many rows in all, evenly on this many workers."""
        return dataclasses.replace(self, rows=(max(1, rows // workers),) * workers)


def from_configuration(configuration: Configuration) -> Workload:
    """The workload of a point of a scaling run."""
    adaptive = configuration.objective in ("reg:absoluteerror", "reg:quantileerror")
    return Workload(
        rows=configuration.rows,
        features=configuration.features,
        bins=configuration.bins,
        depth=configuration.depth,
        growth=configuration.growth,
        max_leaves=configuration.max_leaves,
        trees_per_round=configuration.trees_per_round,
        column_share=configuration.column_share,
        row_share=configuration.row_share,
        adaptive=configuration.trees_per_round if adaptive else 0,
        device=configuration.device,
        rounds=(configuration.warmup, configuration.warmup + configuration.rounds),
    )


@dataclass(frozen=True)
class TreeShape:
    """A tree, level by level from the root; means over many trees."""

    splits: tuple[float, ...]  # nodes that split
    reach: tuple[float, ...]  # share of all rows in them
    smaller: tuple[float, ...]  # share of all rows that go to the smaller of their children

    def rounded(self) -> GrownTree:
        """A tree of whole nodes: rounded from the root down, so that the leaf limit is not exceeded."""
        sums = [0, *(round(total) for total in itertools.accumulate(self.splits))]
        counts = (after - before for before, after in itertools.pairwise(sums))
        return GrownTree(tuple(itertools.takewhile(bool, counts)) or (1,))


def expected_tree(workload: Workload, fill: Fill = FILL) -> TreeShape:
    """The mean tree of the workload's rounds."""
    limit = workload.max_leaves or (CHUNK if not workload.depth else 1 << workload.depth)
    levels = workload.depth or math.ceil(math.log2(limit)) + 4
    first, stop = workload.rounds
    numbers = range(first, stop, max(1, (stop - first) // SAMPLED_ROUNDS))
    rows, features = workload.total_rows, workload.features
    smaller = statistics.fmean(fill.smaller_child(rows, number, levels, features) for number in numbers)
    found: list[tuple[float, float, float]] = []
    leaves = 1.0
    for level in range(levels):
        share = statistics.fmean(fill.share(rows, number, level, features) for number in numbers)
        free = min(2 * found[-1][0] if found else 1.0, share * (1 << level))
        count = min(free, limit - leaves)
        if count < LEAST_SPLITS:
            break
        reach = share**SHARE_TO_ROWS * count / free
        found.append((count, reach, reach * smaller))
        leaves += count
    return TreeShape(*zip(*found, strict=True)) if found else TreeShape((), (), ())


def work(rows: int, workload: Workload, tree: TreeShape) -> dict[str, float]:
    """The units of work of one round on a worker with this many rows, by the names of `machine.Coefficients`."""
    depth = workload.depth or len(tree.splits) + 1
    built = tree.splits[: depth - 1]  # parents of histograms: of two children one is built, the other subtracted
    rows_built = rows * (1 + sum(tree.smaller[: depth - 1]))
    rows_split = rows * sum(tree.reach)
    nodes = 1 + 2 * sum(built)
    bins = workload.bins * workload.column_share
    histogram, histograms = workload.bins * BIN_NBYTES, nodes * workload.bins * BIN_NBYTES
    full = FILLING * workload.bins / workload.features
    filled = min(1.0, workload.total_rows / full)
    for count, share in zip(built, tree.reach, strict=False):
        filled += 2 * count * min(1.0, workload.total_rows * share / (2 * count * full))
    one = {
        "row_feature": rows_built * workload.features,
        "row_feature_doubling": rows_built * workload.features * _doublings(histogram, CACHED_NBYTES),
        "row_built": rows_built,
        "row_split": rows_split,
        "row_split_doubling": rows_split * _doublings(rows * ROW_NBYTES, NEAR_NBYTES),
        "row": float(rows),
        "bin_node": bins * nodes,
        "bin_node_wide": bins * nodes * _beyond(histogram, CACHED_NBYTES),
        "bin_node_filled": bins * filled,
        "bin_node_far": bins * nodes * _beyond(histograms, REACHED_NBYTES),
        "feature_node": workload.features * workload.column_share * nodes,
        "tree": 1.0,
    }
    return {name: amount * workload.trees_per_round for name, amount in one.items()}


def _beyond(nbytes: float, cache_nbytes: float) -> float:
    """The share that does not fit in a cache."""
    return max(0.0, 1 - cache_nbytes / max(1.0, nbytes))


def _doublings(nbytes: float, cache_nbytes: float) -> float:
    return max(0.0, math.log2(max(1.0, nbytes) / cache_nbytes))


def replicated_seconds(machine: Machine, workload: Workload) -> float:
    """The part of a round that every worker repeats, however few rows it has: split evaluation."""
    amounts = work(0, workload, expected_tree(workload, machine.fill))
    return machine.coefficients.seconds({name: amounts[name] for name in REPLICATED})


def calls(workload: Workload, tree: GrownTree | TreeShape) -> list[Call]:
    """Every allreduce of a round with such trees."""
    trees = [tree.rounded() if isinstance(tree, TreeShape) else tree] * workload.trees_per_round
    return calls_of_round(workload.tree_growth, trees, workload.adaptive) if workload.workers > 1 else []


@dataclass(frozen=True)
class _Round:
    """The model's prediction of a round."""

    useful: list[float]  # by rank
    other: list[float]  # by rank
    late: float  # seconds that the last worker is later than expected of the longest, because rounds vary
    transfer: float
    exchanges: list[Call]

    @property
    def ready(self) -> float:
        """The time at which the last worker is ready for its peers."""
        return max(u + o for u, o in zip(self.useful, self.other, strict=True)) + self.late

    @property
    def seconds(self) -> float:
        return self.ready + self.transfer

    def splits(self) -> tuple[TimeSplit, ...]:
        pairs = zip(self.useful, self.other, strict=True)
        return tuple(TimeSplit(useful=u, transfer=self.transfer, wait=self.ready - u - o, other=o) for u, o in pairs)


def _round(machine: Machine, workload: Workload) -> _Round:
    tree = expected_tree(workload, machine.fill)
    alone = {rows: machine.coefficients.seconds(work(rows, workload, tree)) for rows in set(workload.rows)}
    speeds = machine.speeds(workload.workers)
    exchanges = calls(workload, tree)
    useful = [alone[rows] / speed for rows, speed in zip(workload.rows, speeds, strict=True)]
    return _Round(
        useful=useful,
        other=[machine.delay * seconds for seconds in useful],
        late=_late(useful, machine.jitter),
        transfer=sum(machine.allreduce_seconds(call.nbytes, workload.workers) for call in exchanges),
        exchanges=exchanges,
    )


def _late(useful: Sequence[float], jitter: float) -> float:
    """How much longer the slowest worker computes than expected of the slowest, when each varies by `jitter`.

    The expected largest of n normal deviates (Blom 1958), over the workers whose time is close to the longest.
    """
    longest = max(useful)
    near = sum(seconds >= longest * (1 - 2 * jitter) for seconds in useful)
    return longest * jitter * statistics.NormalDist().inv_cdf((near - 0.375) / (near + 0.25)) if near > 1 else 0.0


def predict(machine: Machine, workload: Workload) -> Prediction:
    """Predicts a round of the workload on the calibrated workers; the caller fills in `time`."""
    found, ranks = _round(machine, workload), range(workload.workers)
    limited = workload.depth or workload.max_leaves
    bound = calls(workload, full_tree(workload.tree_growth)) if limited else found.exchanges
    capability = machine.capabilities + (machine.capabilities[-1],) * workload.workers
    return Prediction(
        time="",
        seconds=found.seconds,
        seconds_low=found.seconds * max(0.0, 1 - BAND * machine.spread),
        seconds_high=found.seconds * (1 + BAND * machine.spread),
        splits=found.splits(),
        figures=figures(
            found.seconds, found.useful, [found.transfer] * workload.workers, capability[: workload.workers]
        ),
        bytes_bound=tuple(sent_nbytes(bound, workload.workers, rank) for rank in ranks),
        bytes_estimate=tuple(sent_nbytes(found.exchanges, workload.workers, rank) for rank in ranks),
    )


@dataclass(frozen=True)
class CurvePoint:
    """The model's prediction for one number of workers."""

    workers: int
    seconds: float  # of a round
    parallel_efficiency: float


def curve(
    machine: Machine, workload: Workload, workers: Sequence[int], mode: Literal["strong", "weak"] = "strong"
) -> list[CurvePoint]:
    """The model for other numbers of workers, evenly loaded: with the same total rows, or with the same rows each."""
    each = workload.total_rows // workload.workers
    points = []
    for count in workers:
        rows = workload.total_rows if mode == "strong" else each * count
        found = _round(machine, workload.on(count, rows))
        points.append(CurvePoint(count, found.seconds, parallel_efficiency(found.useful, found.seconds)))
    return points


def stops_paying(machine: Machine, workload: Workload, most: int = 1024) -> int:
    """The number of workers beyond which one more saves less of a round than it costs.

    A worker costs its share of the round's worker-seconds: going from N to N + 1 saves T(N) - T(N+1) on each of N
    workers, and costs T(N+1) on the new one.  The threshold is half of ideal scaling: with ideal scaling both are
    equal, so another worker pays while N (T(N) - T(N+1)) is at least half of T(N+1).  `most` if another worker still
    pays there.
    """
    seconds: dict[int, float] = {}

    def of(count: int) -> float:
        if count not in seconds:
            seconds[count] = _round(machine, workload.on(count, workload.total_rows)).seconds
        return seconds[count]

    for count in range(1, most):
        if 2 * count * (of(count) - of(count + 1)) < of(count + 1):
            return count
    return most


def weak_limit(machine: Machine, workload: Workload, target: float = 0.8, most: int = 1 << 16) -> int:
    """The largest number of workers, each with as many rows as now, whose PE stays at `target` or above; 1 at least.

    `most` (a power of two) if PE stays there too.
    """
    low, high = 1, 2
    while high <= most and curve(machine, workload, [high], "weak")[0].parallel_efficiency >= target:
        low, high = high, 2 * high
    while high - low > 1 and high <= most:
        middle = (low + high) // 2
        if curve(machine, workload, [middle], "weak")[0].parallel_efficiency >= target:
            low = middle
        else:
            high = middle
    return low
