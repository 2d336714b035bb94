"""Prints a plan: a line for each layout, bars for the time and memory of the best one, then what follows."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.formatting import aligned, duration, many, mib
from pipeline.planning.refusal import TERMS

if TYPE_CHECKING:
    from pipeline.planning.plan import LayoutPlan, Plan

BAR = 24  # characters of the longest bar
LEAST_SHARE = 0.01  # of the whole: smaller stages and terms are summed up
TITLES = {
    "start": "start", "metadata": "metadata", "survey": "survey", "statistics": "statistics", "blocks": "blocks",
    "matrix": "matrix", "rounds": "rounds", "evaluate": "evaluation", "save": "model folder", "report": "report",
    "other": "between the stages", "reading": "survey", "evaluation": "evaluation",
}  # fmt: skip


def render(plan: "Plan") -> str:
    """The plan as text."""
    shown = plan.best or plan.layouts[0]
    parts = [
        aligned(_head(plan)),
        ["", *aligned(_layouts(plan), right=(1,))],
        ["", f"time with {shown.name}", *_time(shown)],
        ["", f"memory of a worker with {shown.name}, by stage (resident set)", *_memory(shown)],
        ["", *aligned(_follows(plan, shown))],
    ]
    return "\n".join(line for part in parts for line in part)


def _head(plan: "Plan") -> list[tuple[str, str]]:
    size = plan.size
    trees = f" of {size.trees} trees" if size.trees > 1 else ""
    depth = f"depth {size.depth}" if size.depth else f"{size.max_leaves or 'any number of'} leaves"
    found = [
        (
            "data",
            f"{size.rows:,} rows, {size.columns:,} columns, in {many(size.fragments, 'fragment')} of {many(size.files, 'file')}",
        ),
        ("rounds", f"{size.rounds:,}{trees}, {depth}; at most: early stopping may end them before"),
        ("numbers from", plan.evidence.source()),
    ]
    if plan.evidence.busy > 1.2:
        found.append(
            ("busy now", f"other programs use the cores: x {plan.evidence.busy:.1f}; times are for a quiet machine")
        )
    return found


def _layouts(plan: "Plan") -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("workers x threads", "time", "(80 %)", "CPU", "memory of a worker", "", "")]
    for one in plan.layouts:
        limit = f"of {mib(one.limit_nbytes)}" if one.limit_nbytes else "no limit"
        cost = ""
        if plan.options.prices is not None and one.modes:
            cost = ", ".join(
                f"{mode.mode.replace('_', ' ')} {plan.options.prices.amount(mode.cost)}" for mode in one.modes
            )
        mark = "refused" if one.refused else "<- best" if one is plan.best else ""
        rows.append(
            (
                f"{one.layout.workers} x {one.layout.threads}",
                duration(one.wall.middle),
                f"({duration(one.wall.low)} to {duration(one.wall.high)})",
                duration(one.cpu.middle),
                f"{mib(one.peak.middle)} {limit}, matrix {'in memory' if one.storage.worker.matrix == 'memory' else 'on disk'}",
                cost,
                mark,
            )
        )
    return rows


def _time(one: "LayoutPlan") -> list[str]:
    whole = one.forecast.wall_seconds
    shown = [(stage, seconds) for stage, seconds in one.forecast.wall.items() if seconds >= LEAST_SHARE * whole]
    longest = max(seconds for _, seconds in shown)
    return aligned(
        [(f"  {TITLES[stage]}", duration(seconds), bar(seconds / longest)) for stage, seconds in shown], right=(1,)
    )


def _memory(one: "LayoutPlan") -> list[str]:
    memory = one.forecast.memory
    scale = max(one.limit_nbytes if one.limit_nbytes < 4 * memory.peak_nbytes else 0, memory.peak_nbytes)
    rows = []
    for stage, terms in memory.terms.items():
        largest = sorted(((nbytes, term) for term, nbytes in terms.items() if nbytes >= 2**20), reverse=True)
        about = ", ".join(f"{TERMS[term][0]} {mib(nbytes)}" for nbytes, term in largest[:3])
        rows.append((f"  {TITLES[stage]}", mib(memory.of(stage)), bar(memory.of(stage) / scale), about))
    return aligned(rows, right=(1,))


def _follows(plan: "Plan", shown: "LayoutPlan") -> list[tuple[str, str]]:
    found = [("so", answer) for answer in plan.answers()]
    grown = ", ".join(
        f"{'one level deeper' if name == 'depth' else f'twice the {name}'}: time x {wall:.2f}, memory x {memory:.2f}"
        for name, (wall, memory) in plan.growth.items()
    )
    formula = plan.resource_formula()
    rate = plan.size.rows / shown.wall.middle
    found += [
        ("growth", grown),
        ("throughput", f"{rate:,.0f} rows a second, {1e6 / max(1e-9, rate):,.3g} us a row"),
        ("R = D/B x T/C / k", _formula(formula)),
    ]
    notes = dict.fromkeys([*plan.evidence.notes, *(note for one in plan.layouts for note in one.notes)])
    found += [("note", note) for note in notes]
    found += [("refused", f"{one.name}: {one.refused}") for one in plan.layouts if one.refused]
    return found


def _formula(found: dict[str, float]) -> str:
    if not math.isfinite(found["worker_nbytes"]):
        return "not defined: the workers have no memory limit"
    return (
        f"{mib(found['data_nbytes'])} / {mib(found['worker_nbytes'])} x {found['work_seconds']:.1f} s / "
        f"{found['compression']:.2f} = {found['R_worker_seconds']:,.3g} worker-seconds; planned "
        f"{found['planned_worker_seconds']:,.3g}: a run needs whole workers, and pays its start"
    )


def bar(share: float) -> str:
    """
    >>> bar(0.5)
    '############'
    """
    return "#" * max(1, round(BAR * min(1.0, share))) if share > 0 else ""
