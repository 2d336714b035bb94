"""Renders the tables of a scaling run's page; every text from outside is escaped here."""

import html
import statistics
from collections.abc import Callable, Sequence

from pipeline.efficiency.machine import Machine
from pipeline.efficiency.records import Result
from pipeline.formatting import for_terminal
from pipeline.scaling.chart_style import CROWDED, GOOD, PARTS
from pipeline.scaling.charts import RATIOS, is_crowded, modes, of, pair_of, ratio_of
from pipeline.scaling.checks import Check
from pipeline.scaling.view import PointSummary, base_case

FACTORS = {  # figure -> description
    "GE": "global efficiency: core-seconds of the best single process over those of the workers",
    "PE": "parallel efficiency = LB × CommE: the share of all workers' time that is compute",
    "LB": "load balance: mean useful time over the longest",
    "CommE": "communication efficiency = SerE × TE: the longest useful time over the round",
    "SerE": "serialisation efficiency: what an infinitely fast network would leave of CommE",
    "TE": "transfer efficiency: what the network itself leaves",
    "CompS": "computation scalability: useful time of one worker over that of all together, by row",
}
UNGRADED = {
    "E": "seconds of compute for every second of overhead; no upper bound",
    "J": "1 where all workers' overheads are the same, larger the more they differ",
}
MOST_ROWS = 12  # of a table that is unfolded at first
UNITS = {"T": "ms", "u": "ms", "C": "ms", "E": "", "PE": ""}
HEADS = {"T": "T", "u": "u, useful", "C": "C, overhead", "E": "E", "PE": "PE"}
STATES = {True: ("yes", "✓"), False: ("no", "!"), None: ("", "–")}
STYLE = """
td.good { background: #d9f0e7; } td.bad { background: #fbe3d0; }
td.good, td.bad { border-left: 2px solid var(--paper); }
table.figures th, table.figures td { padding: 5px 10px; } table.figures td:first-child { padding-left: 0; }
table.figures td:first-child, .pairs td:first-child { white-space: nowrap; }
.pairs th.g { text-align: center; color: var(--ink); } .pairs td.f, .pairs th.f { padding-left: 16px; }
.pairs th, .pairs td { padding: 5px 4px; font-size: 12.5px; } .pairs td:first-child { padding-left: 0; }
dl.words { display: grid; grid-template-columns: max-content 1fr; gap: 3px 14px; margin: 14px 0 0; font-size: 13.5px; }
dl.words dt { font-weight: 600; } dl.words dd { margin: 0; color: var(--muted); }
.key { display: inline-block; padding: 0 8px; border-radius: 4px; font-size: 13px; }
.scroll td:first-child, .scroll th:first-child { position: sticky; left: 0; background: var(--paper); }
table.facts tr:last-child > th { border-bottom: 0; }
table.checks td:first-child { width: 26px; text-align: center; padding: 5px 8px 5px 0; }
.state { display: inline-block; width: 18px; height: 18px; line-height: 18px; border-radius: 9px; text-align: center;
  font-size: 12px; font-weight: 700; background: var(--rule); color: var(--muted); }
.state.yes { background: #009e73; color: #ffffff; } .state.no { background: #d55e00; color: #ffffff; }
ul.notes { margin-top: 12px; } details > summary { margin: 0; } details > .scroll { margin-top: 10px; }
@media (max-width: 760px) { table.figures th, table.figures td { padding: 5px 4px; font-size: 12px; } }
"""


def text(value: object) -> str:
    """Any text, safe in HTML."""
    return html.escape(for_terminal(str(value)))


def milliseconds(seconds: float) -> str:
    """Milliseconds with a readable number of digits.

    >>> milliseconds(0.00234), milliseconds(0.0453), milliseconds(1.5)
    ('2.34 ms', '45.3 ms', '1,500 ms')
    """
    value = 1e3 * seconds
    return f"{value:,.{max(0, min(2, 2 - len(str(int(value))) + 1))}f} ms"


def _bare(seconds: float) -> str:
    """Milliseconds without the unit."""
    return milliseconds(seconds).removesuffix(" ms")


def _name_of(point: PointSummary) -> str:
    """A point's short description."""
    star = "*" if is_crowded(point) else ""
    return f"{point.configuration.mode}, {point.workers:,} worker{'' if point.workers == 1 else 's'}{star}"


def _ordered(points: Sequence[PointSummary]) -> list[PointSummary]:
    """By mode and number of workers."""
    return [point for mode in modes(points) for point in of(points, mode)]


def number(value: float | None, workers: int = 0, digits: int = 3) -> str:
    """A figure, or the reason for its absence."""
    if value is None:
        return "–" if workers <= 1 else "saturated"
    return f"{value:,.{digits}f}"


def factors(points: Sequence[PointSummary]) -> str:
    """POP's factors by number of workers; 0.8 and more is good."""
    heads = "".join(f'<th class="n">{name}</th>' for name in (*FACTORS, *UNGRADED, "T"))
    rows = []
    for point in _ordered(points):
        graded = "".join(_graded(getattr(point, name)) for name in FACTORS)
        plain = "".join(
            f'<td class="n">{number(None if point.workers == 1 else getattr(point, name), point.workers, 2)}</td>'
            for name in UNGRADED
        )
        rows.append(
            f'<tr><td>{_name_of(point)}</td>{graded}{plain}<td class="n">{milliseconds(point.seconds.median)}</td></tr>'
        )
    words = "".join(f"<dt>{name}</dt><dd>{said}</dd>" for name, said in (FACTORS | UNGRADED).items())
    keys = f'<p><span class="key" style="background: #d9f0e7">{GOOD} and above</span> <span class="key" style="background: #fbe3d0">below</span></p>'
    return (
        f'{keys}<div class="scroll"><table class="figures"><tr><th></th>{heads}</tr>{"".join(rows)}</table></div>{_star(points)}'
        f'<dl class="words">{words}</dl>'
    )


def _graded(value: float | None) -> str:
    if value is None:
        return '<td class="n">–</td>'
    return f'<td class="n {"good" if round(value, 3) >= GOOD else "bad"}">{value:.3f}</td>'


def predictions(points: Sequence[PointSummary]) -> str:
    """Measured, predicted, ratio: of T, u, C, E and PE."""
    said = [point for point in _ordered(points) if point.predicted is not None]
    if not said:
        return ""
    groups = "".join(f'<th class="g" colspan="3">{HEADS[n]}{UNITS[n] and ", " + UNITS[n]}</th>' for n in RATIOS)
    heads = '<th class="n f">measured</th><th class="n">predicted</th><th class="n">ratio</th>' * len(RATIOS)
    rows = [f"<tr><td>{_name_of(point)}</td>{''.join(_pair(point, name) for name in RATIOS)}</tr>" for point in said]
    return (
        f'<div class="scroll"><table class="pairs"><tr><th></th>{groups}</tr><tr><th></th>{heads}</tr>{"".join(rows)}</table>'
        f"</div>{_star(said)}"
    )


def _pair(point: PointSummary, name: str) -> str:
    shown: Callable[[float], str] = _bare if UNITS[name] else lambda value: f"{value:.{3 if name == 'PE' else 2}f}"
    was, will = ("–" if value is None else shown(value) for value in pair_of(point, name))
    ratio = ratio_of(point, name)
    return f'<td class="n f">{was}</td><td class="n">{will}</td><td class="n"><b>{"" if ratio is None else f"{ratio:.2f}"}</b></td>'


def _star(points: Sequence[PointSummary]) -> str:
    if not any(is_crowded(point) for point in points):
        return ""
    return f'<p class="sub">* oversubscribed, {CROWDED}: no check of the model</p>'


def workers(points: Sequence[PointSummary]) -> str:
    """u, x, w and o of every worker, with its rows and bytes; folded where it is long."""
    names = ("rows", *(name for name, _ in PARTS.values()), "T", "useful", "closure", "bytes sent a round")
    heads = "".join(f'<th class="n">{name}</th>' for name in names)
    rows = [_worker(point, rank) for point in _ordered(points) for rank in range(point.workers)]
    table = f'<div class="scroll"><table class="figures"><tr><th></th>{heads}</tr>{"".join(rows)}</table></div>'
    return (
        table if len(rows) <= MOST_ROWS else f"<details><summary>all {len(rows):,} workers</summary>{table}</details>"
    )


def _worker(point: PointSummary, rank: int) -> str:
    split, closure, sent = point.splits[rank], point.closures[rank], point.bytes_sent[rank]
    cells = (
        f"{point.configuration.rows[rank]:,}",
        *(milliseconds(getattr(split, part)) for part in PARTS),
        milliseconds(point.seconds.median),
        f"{split.useful / point.seconds.median:.0%}",
        "–" if closure is None else f"{closure:.1%}",
        "–" if sent is None else f"{sent:,}",
    )
    name = _name_of(point) if point.workers == 1 else f"{_name_of(point)}, {rank}"
    return f"<tr><td>{name}</td>{''.join(f'<td class="n">{cell}</td>' for cell in cells)}</tr>"


def traffic(points: Sequence[PointSummary]) -> str:
    """Bytes that the first worker sends in a round: two predictions, the counted bytes, and those computed from the
    trees.
    """
    shared = [point for point in _ordered(points) if point.workers > 1]
    if not shared:
        return ""
    names = ("at most", "expected", "sent", "by the trees")
    heads = "".join(f'<th class="n">{name}</th>' for name in names)
    rows = []
    for point in shared:
        said = point.predicted
        before = (None, None) if said is None else (said.bytes_bound[0], said.bytes_estimate[0])
        counts = (*before, point.bytes_sent[0], point.bytes_expected[0])
        cells = "".join(f'<td class="n">{"–" if nbytes is None else f"{nbytes:,}"}</td>' for nbytes in counts)
        rows.append(f"<tr><td>{_name_of(point)}</td>{cells}</tr>")
    return (
        "<h3>Bytes that worker 0 sends in a round</h3>"
        f'<div class="scroll"><table class="pairs"><tr><th></th>{heads}</tr>{"".join(rows)}</table></div>'
        '<p class="sub">At most, with full trees, and expected: predicted before the run. Sent: as XGBoost\'s sockets '
        "counted. By the trees: computed afterwards from those that were built; it should be the same.</p>"
    )


def trust(found: Sequence[Check]) -> str:
    """Every check with its answer."""
    rows = []
    for check in found:
        kind, mark = STATES[check.good]
        rows.append(
            f'<tr><td><span class="state {kind}">{mark}</span></td><td>{text(check.name)}</td>'
            f'<td class="t">{text(check.value)}</td></tr>'
        )
    return f'<table class="checks">{"".join(rows)}</table>' if rows else ""


def circumstances(result: Result, machine: Machine | None) -> str:
    """The circumstances of the measurement: machine, versions, calibration."""
    around, facts = result.circumstances, dict[str, str]()
    about = around.get("machine", {})
    parts = (about.get("processor"), f"{about.get('cores', '?')} cores", _gibibytes(about), about.get("system"))
    facts["machine"] = ", ".join(str(part) for part in parts if part)
    facts["GPUs"] = ", ".join(about.get("gpus", ()))
    facts["load before"] = str(about.get("load_before", ""))
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in around.get("versions", {}).items())
    facts["time"], facts["commit"] = str(around.get("time", "")), str(around.get("commit", ""))
    if machine is not None:
        facts["calibration"] = f"{machine.made}, {machine.seconds:.1f} s, residuals {machine.spread:.1%}"
    for mode in dict.fromkeys(single.mode for single in result.singles):
        if (single := base_case(result, mode)) is not None:
            seconds, said = statistics.median(single.seconds), f"; {single.note}" if single.note else ""
            threads = f"{single.threads} thread{'' if single.threads == 1 else 's'}"
            facts[f"one process, {mode}"] = f"{threads}, {single.rows:,} rows: {milliseconds(seconds)} a round{said}"
    rows = "".join(
        f'<tr><th>{text(name)}</th><td class="t">{text(value)}</td></tr>' for name, value in facts.items() if value
    )
    return f'<table class="facts">{rows}</table>{_notes(result.notes)}'


def _gibibytes(about: dict[str, object]) -> str:
    nbytes = about.get("memory_nbytes")
    return f"{nbytes / 2**30:.0f} GiB" if isinstance(nbytes, int) else ""


def _notes(notes: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{text(note)}</li>" for note in notes)}</ul>' if notes else ""
