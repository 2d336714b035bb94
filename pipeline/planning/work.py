"""Lists the work of each stage of a run, in units whose cost was measured: rows, values, bytes of text, nodes.

The units of the rounds are those of `efficiency.cost.work`.  `unit_costs.json` has the seconds of each unit; it is made by
`python -m benchmarks.plan_fit`.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.efficiency.cost import TreeShape, Workload, calls, expected_tree, work
from pipeline.efficiency.machine import Fill
from pipeline.planning.assignment import assign
from pipeline.planning.job_size import JobSize

STAGES = ("reading", "statistics", "blocks", "matrix", "rounds", "evaluation", "elsewhere")
"""Of CPU seconds: the account's, and `elsewhere`: the client, the scheduler, the start of the processes."""

Amounts = Mapping[str, float]  # by unit


@dataclass(frozen=True)
class Layout:
    """How many workers with how many threads each."""

    workers: int
    threads: int

    @property
    def slots(self) -> int:
        return self.workers * self.threads


@dataclass(frozen=True)
class Shares:
    """What each worker gets of a job: by its fragments, as the run will assign them to workers of equal speed."""

    of_rows: tuple[float, ...]  # of all, largest first; workers without a fragment are left out
    fragments: tuple[int, ...]  # of the same workers

    @classmethod
    def of(cls, size: JobSize, workers: int) -> "Shares":
        sizes = [max(1, nbytes) for nbytes in size.fragment_nbytes] or [1]
        assigned = [share for share in assign(sizes, [1.0] * workers) if share]
        loads = sorted(((sum(sizes[place] for place in share), len(share)) for share in assigned), reverse=True)
        return cls(tuple(load / sum(sizes) for load, _ in loads), tuple(count for _, count in loads))

    @property
    def used(self) -> int:
        """Workers that get rows."""
        return len(self.of_rows)

    def rows(self, total: int) -> tuple[int, ...]:
        return tuple(max(1, round(total * share)) for share in self.of_rows)

    def busiest(self, threads: int) -> float:
        """The share of a pass's work that the last thread to end has done, when fragments are dealt out to threads."""
        return max(share / min(threads, count) for share, count in zip(self.of_rows, self.fragments, strict=True))


def grown(size: JobSize, fill: Fill, leaves: float | None = None) -> tuple[Fill, TreeShape]:
    """The mean tree of a job's rounds.

    `leaves`: of a tree, as measured on such data; then the trees are shifted until they have so many.  Returns how they
    grow, which holds for other numbers of rows as well.
    """
    workload = size.workload((size.train_rows,))
    if leaves is None:
        return fill, expected_tree(workload, fill)
    low, high = -30.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        tree = expected_tree(workload, dataclasses.replace(fill, constant=middle))
        low, high = (low, middle) if 1 + sum(tree.splits) > leaves else (middle, high)
    fill = dataclasses.replace(fill, constant=high)
    return fill, expected_tree(workload, fill)


def pass_work(size: JobSize, layout: Layout, shares: Shares, tree: TreeShape) -> dict[str, Amounts]:
    """The CPU work of each stage but the rounds, of all workers together."""
    exchange = calls(workload_of(size, shares), tree)
    exchanged = size.rounds * shares.used * sum(call.nbytes for call in exchange)
    sampled = min(size.sample_rows, size.train_rows)
    parsed = float(size.text_nbytes)
    decoded = 0.0 if size.text_nbytes else float(size.rows)  # text is parsed for the survey already
    trees = size.rounds * size.trees
    return {
        "reading": {
            "run": 1.0,
            "file": float(size.files),
            "fragment": float(size.fragments),
            "row": float(size.rows),
            "text_byte": parsed,
            "decoded": decoded * size.numeric_columns,
            "decoded_text": decoded * size.text_columns,
            "decoded_chunk": float(size.fragments * size.columns) * (not size.text_nbytes),
        },
        "statistics": {
            "run": 1.0,
            "fragment": float(size.fragments),
            "fragment_column": float(size.fragments * size.columns),
            "number": float(size.train_rows * size.numeric_columns),
            "text": float(size.train_rows * size.text_columns),
            "sample_value": float(sampled * size.features),
            "column": float(size.columns),
        },
        "blocks": {
            "fragment": float(size.fragments),
            "fragment_column": float(size.fragments * size.columns),
            "number": float(size.rows * size.numeric_columns),
            "text": float(size.rows * size.text_columns),
        },
        "matrix": {"worker": float(layout.workers), "value": float(size.rows * size.features)},
        "evaluation": {
            "row": float(size.rows * size.trees),
            "tree_row": float(size.rows * trees),
            "logarithm": float(size.rows * size.trees * math.log2(max(2, size.rows))),
            "worker": float(layout.workers),
        },
        "elsewhere": {
            "run": 1.0,
            "worker": float(layout.workers),
            "fragment": float(size.fragments),
            "feature": float(size.features),
            "round_worker": float(size.rounds * layout.workers),
            "tree": float(trees),
            "text_byte": parsed,
            "file": float(size.files),
            "report": float(size.report),
            "report_feature": float(size.report * size.features),
            "exchange": float(size.rounds * shares.used * len(exchange)),
            "exchanged_byte": float(exchanged),
        },
    }


def rounds_by_worker(size: JobSize, shares: Shares, tree: TreeShape, threads: int) -> list[dict[str, float]]:
    """The CPU work of one round on each worker that gets rows, the one with most rows first; threads wait for each other
    at each node or level.
    """
    train = shares.rows(size.train_rows)
    held = shares.rows(size.validation_rows) if size.validation_rows else (0,) * shares.used
    workload, waits = size.workload(train), barriers(size, tree)
    known: dict[tuple[int, int], dict[str, float]] = {}
    for rows in zip(train, held, strict=True):
        if rows not in known:
            amounts = work(rows[0], workload, tree)
            amounts["measured_row"] = float(rows[1] * size.metrics * size.trees)
            amounts["held_row_level"] = float(rows[1] * size.trees * max(1, len(tree.splits)))
            amounts["round"] = 1.0
            amounts |= {unit: times * (threads - 1) for unit, times in waits.items()}
            known[rows] = amounts
    return [known[rows] for rows in zip(train, held, strict=True)]


def barriers(size: JobSize, tree: TreeShape) -> dict[str, float]:
    """How often the threads of a worker wait for each other in a round: at each level, or at each node of trees that grow
    leaf by leaf.
    """
    by_leaf = size.growth == "lossguide"
    nodes, levels = 1 + sum(tree.splits), float(len(tree.splits))
    return {
        "node_thread": size.trees * nodes if by_leaf else 0.0,
        "level_thread": 0.0 if by_leaf else size.trees * levels,
    }


def workload_of(size: JobSize, shares: Shares) -> Workload:
    return size.workload(shares.rows(size.train_rows))


def seconds(costs: Mapping[str, float], amounts: Amounts) -> float:
    """The seconds of amounts of work, at so many seconds a unit; units without a cost are free."""
    return math.fsum(costs.get(unit, 0.0) * amount for unit, amount in amounts.items())
