"""Explains a scaling run in three sentences: the largest loss, its cause, and what to change."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.efficiency.cost import Workload, calls, expected_tree, from_configuration, predict, replicated_seconds
from pipeline.efficiency.machine import Machine, Ring
from pipeline.efficiency.records import Result
from pipeline.scaling.view import PointSummary, base_of, headline_point

LEAST = 0.03  # of a round, or of PE: changes with a smaller gain are not proposed
MORE = 4  # times the rows
FASTER = 10  # times the network's bandwidth and latency


def explain_result(result: Result, machine: Machine | None) -> tuple[str, ...]:
    """Explains the point with the most workers that is not oversubscribed, strong scaling first; none without such a
    point.

    Without a calibrated machine the cause is derived from the measurements, and no gain is predicted.
    """
    point = headline_point(result)
    if point is None:
        return ()
    if point.workers == 1:
        return (f"With one worker nothing is exchanged: {_share(point.PE)} of its time is compute.",)
    losses = overhead_breakdown(point, machine)
    largest = max(losses, key=lambda name: losses[name])
    return (_loss(point, largest, losses[largest]), _cause(point, largest, machine), _change(result, point, machine))


def overhead_breakdown(point: PointSummary, machine: Machine | None) -> dict[str, float]:
    """Seconds of a round that the mean worker loses, by cause.

    A worker waits for the worker that computes longest overall (imbalance), and in each round for the worker that is
    late in it.
    """
    imbalance = max(split.useful for split in point.splits) - point.mean("useful")
    losses = {
        "imbalance": min(imbalance, point.mean("wait")),
        "transfer": point.mean("transfer"),
        "waiting": max(0.0, point.mean("wait") - imbalance),
        "run queue": point.mean("other"),
    }
    if machine is not None:
        repeated = replicated_seconds(machine, from_configuration(point.configuration))
        losses["replicated split evaluation"] = repeated * (1 - 1 / point.workers)
    return losses


def _loss(point: PointSummary, name: str, seconds: float) -> str:
    total = point.seconds.median
    return (
        f"With {point.workers} workers a round takes {_ms(total)}, {_share(1 - point.PE)} of it overhead; the largest "
        f"loss is {name}, {_ms(seconds)} or {_share(seconds / total)} of a round on the mean worker."
    )


def _cause(point: PointSummary, name: str, machine: Machine | None) -> str:
    configuration = point.configuration
    if name == "transfer":
        workload = from_configuration(configuration)
        tree = expected_tree(workload, machine.fill) if machine else expected_tree(workload)
        exchanges = calls(workload, tree)
        nbytes = sum(call.nbytes for call in exchanges)
        return (
            f"The cause: {nbytes / 1e6:.1f} MB of histograms ({configuration.bins:,} bins, depth "
            f"{configuration.depth}) are summed over the workers in {len(exchanges)} exchanges every round, whatever "
            f"the number of rows ({point.rows:,})."
        )
    if name == "imbalance":
        slowest = max(range(point.workers), key=lambda rank: point.splits[rank].useful)
        longest = point.splits[slowest].useful
        share = configuration.rows[slowest] / max(1, point.rows)
        return (
            f"The cause: worker {slowest} has {_share(share)} of the rows and computes for {_ms(longest)}, "
            f"the mean worker for {_ms(point.mean('useful'))} (load balance {point.LB:.2f})."
        )
    if name == "waiting":
        return (
            "The cause: different workers are late in different rounds, though over many rounds they compute equally long "
            f"(load balance {point.LB:.2f}): the cores are disturbed or their speed changes, and all wait for the last."
        )
    if name == "run queue":
        return (
            "The cause: other programs or more threads than cores; the workers' threads were ready and had no core "
            f"for {_ms(point.mean('other'))} of a round."
        )
    return (
        f"The cause: every worker looks through all {configuration.bins:,} bins of every node for splits, which takes "
        f"as long with {max(configuration.rows):,} rows a worker as with any number."
    )


@dataclass(frozen=True)
class _Change:
    """A possible change and its gain."""

    what: str
    saved: float  # share of a round
    PE: float | None = None  # after the change
    measured: bool = False

    def __str__(self) -> str:
        how = "was measured to take" if self.measured else "is predicted to take"
        efficiency = "" if self.PE is None else f" (PE {self.PE:.2f})"
        return f"{self.what} {how} {_share(self.saved)} off a round{efficiency}"


def _change(result: Result, point: PointSummary, machine: Machine | None) -> str:
    """The best change of each kind: measured, with the same trees, with others; and what more rows would do."""
    tried = [list(_measured(result, point))]
    if machine is not None:
        tried += [
            list(_predicted(machine, point, variants(machine, point))) for variants in (_same_trees, _other_trees)
        ]
    said = [str(best) for changes in tried if (best := _best(changes)) is not None]
    if machine is not None:
        said += _more_rows(machine, point)
    if not said and machine is None:
        return "What to change: without a calibration no gain can be predicted, and none was measured."
    if not said:
        return f"What to change: nothing that was tried gains {_share(LEAST)} of a round."
    return f"What to change: {'; '.join(said)}."


def _best(changes: list[_Change]) -> _Change | None:
    return max((c for c in changes if c.saved >= LEAST), key=lambda change: change.saved, default=None)


def _measured(result: Result, point: PointSummary) -> Iterator[_Change]:
    """Changes whose gain this run measured."""
    total = point.seconds.median
    yield _Change("having the cores to themselves", point.mean("other") / total, measured=True)
    base = base_of(result, point.configuration)
    if base is not None and (not base.all_threads or base.threads == point.cores):
        threads = "with its one thread" if base.threads == 1 else f"with all {base.threads} threads"
        name = "one process without a cluster" if base.all_threads else "one worker alone"
        yield _Change(f"{name}, {threads}," if base.all_threads else name, 1 - base.seconds / total, measured=True)


def _predicted(
    machine: Machine, point: PointSummary, variants: Iterator[tuple[str, Machine, Workload]]
) -> Iterator[_Change]:
    """Changes with the model's prediction for them, relative to its prediction for the unchanged point."""
    now = predict(machine, from_configuration(point.configuration)).seconds
    for what, changed, workload in variants:
        then = predict(changed, workload)
        yield _Change(what, 1 - then.seconds / now, then.figures.PE)


def _same_trees(machine: Machine, point: PointSummary) -> Iterator[tuple[str, Machine, Workload]]:
    workload = from_configuration(point.configuration)
    if max(workload.rows) > 1.05 * min(workload.rows):
        yield "an even split of the rows", machine, workload.on(workload.workers, workload.total_rows)
    yield f"a network {FASTER} times as fast", faster(machine), workload


def _other_trees(machine: Machine, point: PointSummary) -> Iterator[tuple[str, Machine, Workload]]:
    workload = from_configuration(point.configuration)
    half = dataclasses.replace(workload, bins=max(workload.features, workload.bins // 2))
    yield "half the bins (training.max_bin), for coarser splits,", machine, half
    if workload.depth > 2:
        shallower = dataclasses.replace(workload, depth=workload.depth - 1)
        yield f"depth {workload.depth - 1}, for smaller trees,", machine, shallower


def _more_rows(machine: Machine, point: PointSummary) -> list[str]:
    """The effect of larger shares on the efficiency; empty where it is good already."""
    workload = from_configuration(point.configuration)
    more = dataclasses.replace(workload, rows=tuple(MORE * rows for rows in workload.rows))
    now, then = (predict(machine, each).figures.PE for each in (workload, more))
    if then - now < LEAST:
        return []
    return [f"{MORE} times the rows on each worker are predicted to raise PE from {now:.2f} to {then:.2f}"]


def faster(machine: Machine) -> Machine:
    """The same workers on a network `FASTER` times as fast."""
    tables = {
        count: tuple((nbytes, seconds / FASTER) for nbytes, seconds in table)
        for count, table in machine.collectives.items()
    }
    ring = Ring(machine.ring.alpha / FASTER, machine.ring.beta / FASTER)
    return dataclasses.replace(machine, collectives=tables, ring=ring)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"


def _share(value: float) -> str:
    return f"{value:.0%}"
