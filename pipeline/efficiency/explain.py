"""Three sentences about a scaling run: the largest loss, its cause, and what to change."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.efficiency.cost import REPLICATED, Workload, calls, expected_tree, from_configuration, predict, work
from pipeline.efficiency.machine import Machine, Ring
from pipeline.efficiency.record import Result
from pipeline.efficiency.view import Seen, base_case, seen

LEAST = 0.03  # of a round: no change that gains less is proposed
FASTER = 10  # times the network's bandwidth and latency


def sentences(result: Result, machine: Machine | None) -> tuple[str, ...]:
    """About the point with the most workers that is not oversubscribed, strong scaling first; none without one.

    Without a calibrated machine the cause is told from what was measured, and no gain is predicted.
    """
    point = telling(result)
    if point is None:
        return ()
    if point.workers == 1:
        return (f"With one worker nothing is exchanged: {_share(point.PE)} of its time is compute.",)
    losses = losses_of(point, machine)
    largest = max(losses, key=lambda name: losses[name])
    return (_loss(point, largest, losses[largest]), _cause(point, largest, machine), _change(result, point, machine))


def telling(result: Result) -> Seen | None:
    """The point that the sentences are about."""
    points = sorted(seen(result), key=lambda p: (p.configuration.oversubscribed, p.configuration.mode, -p.workers))
    return points[0] if points else None


def losses_of(point: Seen, machine: Machine | None) -> dict[str, float]:
    """Seconds of a round that the mean worker loses, by cause."""
    losses = {"transfer": point.mean("transfer"), "waiting": point.mean("wait"), "run queue": point.mean("other")}
    if machine is not None:
        repeated = evaluation_seconds(machine, from_configuration(point.configuration))
        losses["replicated split evaluation"] = repeated * (1 - 1 / point.workers)
    return losses


def evaluation_seconds(machine: Machine, workload: Workload) -> float:
    """Seconds of a round that every worker looks for splits, all of them for the same."""
    amounts = work(0, workload, expected_tree(workload, machine.fill))
    return machine.coefficients.seconds({name: amounts[name] for name in REPLICATED})


def _loss(point: Seen, name: str, seconds: float) -> str:
    total = point.seconds.median
    return (
        f"With {point.workers} workers a round takes {_ms(total)}, {_share(1 - point.PE)} of it overhead; the largest "
        f"loss is {name}, {_ms(seconds)} or {_share(seconds / total)} of a round on the mean worker."
    )


def _cause(point: Seen, name: str, machine: Machine | None) -> str:
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
    if name == "waiting":
        slowest = max(range(point.workers), key=lambda rank: point.splits[rank].useful)
        longest = point.splits[slowest].useful
        share = configuration.rows[slowest] / max(1, point.rows)
        return (
            f"The cause: imbalance; worker {slowest} has {_share(share)} of the rows and computes for {_ms(longest)}, "
            f"the mean worker for {_ms(point.mean('useful'))} (load balance {point.LB:.2f})."
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
    """Something that might be done."""

    what: str
    seconds: float  # of a round, then
    PE: float | None  # then
    measured: bool = False


def _change(result: Result, point: Seen, machine: Machine | None) -> str:
    now = point.predicted.seconds if point.predicted else point.seconds.median
    candidates = [] if machine is None else list(_predicted(machine, point))
    base = base_case(result, point.configuration.mode)
    if base is not None and base.rows == point.rows and base.threads == point.cores:
        seconds = sorted(base.seconds)[len(base.seconds) // 2]
        scaled = seconds * now / point.seconds.median  # so that it competes with predictions by its measured ratio
        candidates.append(_Change(f"one worker with all {base.threads} threads", scaled, None, measured=True))
    ranked = sorted((c for c in candidates if 1 - c.seconds / now >= LEAST), key=lambda change: change.seconds)
    if not ranked:
        return "What to change: nothing that was tried gains 3 % of a round; more rows pay off on more workers."
    said = [_said(change, now) for change in ranked[:2]]
    return f"What to change: {'; or '.join(said)}."


def _said(change: _Change, now: float) -> str:
    how = "was measured to take" if change.measured else "is predicted to take"
    efficiency = "" if change.PE is None else f", PE {change.PE:.2f}"
    return f"{change.what}, which {how} {_share(1 - change.seconds / now)} off a round{efficiency}"


def _predicted(machine: Machine, point: Seen) -> Iterator[_Change]:
    """Changes with what the model says of them."""
    workload = from_configuration(point.configuration)
    for what, changed in _variants(workload):
        predicted = predict(machine, changed)
        yield _Change(what, predicted.seconds, predicted.figures.PE)
    fast = predict(faster(machine), workload)
    yield _Change(f"a network {FASTER} times as fast", fast.seconds, fast.figures.PE)


def _variants(workload: Workload) -> Iterator[tuple[str, Workload]]:
    if max(workload.rows) > 1.05 * min(workload.rows):
        yield "even shares of the rows", workload.on(workload.workers, workload.total_rows)
    half = dataclasses.replace(workload, bins=max(workload.features, workload.bins // 2))
    yield "half the bins (training.max_bin; coarser splits)", half
    if workload.depth > 2:
        shallower = dataclasses.replace(workload, depth=workload.depth - 1)
        yield f"depth {workload.depth - 1} (another model)", shallower


def faster(machine: Machine) -> Machine:
    """The same workers on a network so many times as fast."""
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
