"""Computes the bytes that boosting sends: exactly once the trees are known, as a bound before.

XGBoost sums histograms over a ring: a reduce-scatter of N - 1 steps and an allgather of N steps (one of them
redundant), in segments of m // N elements, the last one including the remainder; fewer elements than workers are
gathered whole and summed by each.  A histogram bin is a pair of doubles (CPU) or of int64 (GPU).  Of two children one
histogram is built and exchanged, the other is their parent's less the first (the subtraction trick). Source:
src/collective/allreduce.cc, src/tree/updater_quantile_hist.cc and src/tree/driver.h of XGBoost 3.4; the sums are
compared with what the kernel counts on the sockets in tests/efficiency/test_traffic.py.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

DOUBLE = 8  # bytes; also of the GPU's int64
PAIR = 2  # elements of one bin, or of a sum of gradients
BATCH = {"cpu": 256, "cuda": 1024}  # nodes of a level that share one exchange


@dataclass(frozen=True)
class Call:
    """One allreduce."""

    elements: int
    item_nbytes: int = DOUBLE

    @property
    def nbytes(self) -> int:
        return self.elements * self.item_nbytes


@dataclass(frozen=True)
class Growth:
    """The properties that decide which nodes of a tree are exchanged."""

    bins: int  # of all features together
    depth: int  # 0: no limit
    max_leaves: int = 0  # 0: no limit
    policy: Literal["depthwise", "lossguide"] = "depthwise"
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True)
class GrownTree:
    """The properties of a grown tree that determine its traffic."""

    splits: tuple[int, ...]  # split nodes of each level, the root's first
    last: int | None = None  # level of the last split; None: unknown, the deepest is assumed

    @property
    def leaves(self) -> int:
        return 1 + sum(self.splits)


def ring_nbytes(call: Call, workers: int, rank: int) -> int:
    """Bytes that one rank sends for one allreduce.

    >>> [ring_nbytes(Call(10), 3, rank) for rank in range(3)]  # segments of 3, 3 and 4 doubles
    [136, 128, 136]
    """
    if workers == 1:
        return 0
    if call.elements < workers:  # allgather of the vectors, then a sum on each rank
        return workers * call.nbytes
    segment = call.elements // workers

    # The reduce-scatter sends every segment but the one after the rank's own, the allgather every one.
    kept = call.elements - segment * (workers - 1) if rank == workers - 2 else segment
    return 2 * call.nbytes - kept * call.item_nbytes


def exchanged(growth: Growth, tree: GrownTree) -> list[int]:
    """Histograms in each exchange of one tree after the root's."""
    if growth.policy == "lossguide":
        return [1] * _valid_lossguide(growth, tree)
    batches: list[int] = []
    leaves = 1
    for level, count in enumerate(tree.splits):
        for start in range(0, count, BATCH[growth.device]):
            batch = min(count - start, BATCH[growth.device])
            leaves += batch
            if _children_may_split(growth, level, leaves):
                batches.append(batch)
    return batches


def _children_may_split(growth: Growth, level: int, leaves: int) -> bool:
    """Whether the children of nodes at this level get histograms; `leaves`: of the tree once their batch is split."""
    return not (growth.depth and level + 1 >= growth.depth) and not (growth.max_leaves and leaves >= growth.max_leaves)


def _valid_lossguide(growth: Growth, tree: GrownTree) -> int:
    """Splits whose children may be split in turn, each of which is an exchange of its own.

    Not those at the lowest level, and not the split that made the tree full.
    """
    counted = sum(tree.splits[: growth.depth - 1]) if growth.depth else sum(tree.splits)
    last = len(tree.splits) - 1 if tree.last is None else tree.last
    full = growth.max_leaves and tree.leaves >= growth.max_leaves
    return max(0, counted - 1) if full and not (growth.depth and last + 1 >= growth.depth) else counted


def calls_of_tree(growth: Growth, tree: GrownTree) -> list[Call]:
    """Every allreduce of one tree: the sum of the gradients, the root's histogram, then level by level."""
    return [Call(PAIR), Call(PAIR * growth.bins), *(Call(PAIR * growth.bins * n) for n in exchanged(growth, tree))]


def calls_of_round(growth: Growth, trees: Sequence[GrownTree], adaptive: int = 0) -> list[Call]:
    """Every allreduce of one round.

    `adaptive`: outputs of an objective that recomputes its leaves (absolute error 1, quantile error one per quantile);
    it exchanges another short vector, of a length found by counting bytes.
    """
    calls = [call for tree in trees for call in calls_of_tree(growth, tree)]
    return [*calls, Call(adaptive + 1)] if adaptive else calls


def sent_nbytes(calls: Iterable[Call], workers: int, rank: int) -> int:
    """Bytes that one rank sends for all these calls."""
    return sum(count * ring_nbytes(call, workers, rank) for call, count in Counter(calls).items())


def full_tree(growth: Growth) -> GrownTree:
    """The tree that exchanges most: an upper bound of the traffic.  ValueError for a tree without a limit.

    With a limit of leaves the full tree is not bushy: no node in the batch that reaches the limit needs an
    exchange, so the traffic is largest where that batch is a single node.
    """
    if not growth.depth and not growth.max_leaves:
        raise ValueError("a tree without max_depth and max_leaves has no bound")
    if not growth.max_leaves:
        return GrownTree(tuple(1 << level for level in range(growth.depth)))
    left = growth.max_leaves - 1
    upper = [1 << level for level in range(growth.depth - 1)] if growth.depth else [1] * left
    splits: list[int] = []
    for count in upper:
        if left > 1:
            splits.append(min(count, left - 1))
            left -= splits[-1]
    return GrownTree((*splits, min(left, 1 << len(splits))))


def grown(parents: Sequence[int], left_children: Sequence[int]) -> GrownTree:
    """The split nodes of each level, from the arrays of XGBoost's JSON model.

    Nodes are numbered in order of creation: parents come before their children, and the last split has the last
    children.

    >>> grown([2147483647, 0, 0, 1, 1], [1, 3, -1, -1, -1])
    GrownTree(splits=(1, 1), last=1)
    """
    depth: list[int] = []
    splits: list[int] = []
    for parent, left in zip(parents, left_children, strict=True):
        depth.append(0 if not 0 <= parent < len(depth) else depth[parent] + 1)
        if left != -1:
            splits.extend([0] * (depth[-1] + 1 - len(splits)))
            splits[depth[-1]] += 1
    return GrownTree(tuple(splits), last=depth[-1] - 1 if splits else None)
