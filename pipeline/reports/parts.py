"""Renders the report's tables and other HTML; every text from outside is escaped here."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.metric_registry import HEADLINES, title_of
from pipeline.efficiency.account import KINDS, Account, StageTime
from pipeline.efficiency.advice import largest_loss
from pipeline.reports import data as report_data
from pipeline.reports.data import ReportColumn, ReportData, number, plain

SPENT = {  # kind of worker-seconds -> its label, its color
    "useful": ("useful", "#0f9d74"),
    "transfer": ("transfer", "#2563eb"),
    "wait": ("waiting", "#ca8a04"),
    "other": ("other", "#98a2b3"),
    "idle": ("idle", "#d0d5dd"),
    "remainder": ("unexplained", "#be185d"),
}
MOST_CONFUSED = 15  # classes that fit a confusion matrix on a page
USES = ("train", "validation")
_WHATS = {
    "binary": "two-class classification",
    "multiclass": "classification into {n} classes",
    "regression": "regression",
    "ranking": "ranking",
}


def text(value: object, longest: int = 200) -> str:
    """A text from outside, safe in HTML."""
    return html.escape(plain(value, longest))


def header(data: ReportData) -> str:
    """Title, subtitle, and the headline metrics."""
    what = _WHATS[data.target.kind].format(n=len(data.target.classes))
    lines = [f"Predicts <b>{text(data.target.column)}</b>: {what}, <code>{text(data.target.objective)}</code>"]
    facts = [f"{text(value)} {text(name)}" for name, value in data.facts.items()]
    lines.append(" · ".join([*facts, text(data.created)]))
    paragraphs = "".join(f'<p class="sub">{line}</p>' for line in lines)
    return f'<header><div><h1>{text(data.title)}</h1>{paragraphs}<div class="heads">{_heads(data)}</div></div></header>'


def _heads(data: ReportData) -> str:
    judged = data.metrics.get(data.judged, {})
    other = data.metrics.get("train", {}) if data.judged == "validation" else {}
    shown = [name for name in HEADLINES[data.target.kind] if isinstance(judged.get(name), (int, float))]
    cards = []
    for name in shown[:4]:
        beside = f"train {number(other[name])}" if isinstance(other.get(name), (int, float)) else "on the training rows"
        cards.append(
            f'<div class="head"><span>{text(title_of(name))}</span><b>{number(judged[name])}</b><span>{beside}</span></div>'
        )
    if data.best_round:
        cards.append(
            f'<div class="head"><span>{data.kept} round</span><b>{data.best_round:,}</b>'
            f"<span>of {data.rounds:,} trained</span></div>"
        )
    return "".join(cards)


def metrics_table(data: ReportData) -> str:
    """All metrics, training next to validation."""
    uses = [use for use in USES if data.metrics.get(use)]
    names = dict.fromkeys(
        name for use in uses for name, value in data.metrics[use].items() if isinstance(value, (int, float))
    )
    rows = [
        [(text(title_of(name)), ""), *((_number(data.metrics[use].get(name)), "n") for use in uses)] for name in names
    ]
    return _table([("", ""), *((use, "n") for use in uses)], rows)


def confusion(data: ReportData) -> str:
    """The confusion matrix of the judged rows; shades are shares of the true class.  Empty where it does not fit."""
    counts = data.metrics.get(data.judged, {}).get("confusion")
    names = data.target.classes
    if not counts or len(counts) > MOST_CONFUSED or len(names) < len(counts):
        return ""
    heads = "".join(f"<th>{text(name, 24)}</th>" for name in names[: len(counts)])
    rows = []
    for name, row in zip(names, counts, strict=False):
        total = sum(row) or 1.0
        cells = "".join(_cell(value, value / total) for value in row)
        rows.append(f"<tr><th>{text(name, 24)}</th>{cells}</tr>")
    return (
        f'<h3>Confusion on {data.judged}</h3><p class="sub">rows: what it was; columns: what was predicted</p>'
        f'<div class="scroll"><table class="confusion"><tr><th></th>{heads}</tr>{"".join(rows)}</table></div>'
    )


def _cell(value: float, share: float) -> str:
    ink = "#ffffff" if share > 0.55 else "#1c2430"
    style = f"background: rgba(37, 99, 235, {0.06 + 0.94 * share:.3f}); color: {ink}"
    return f'<td style="{style}">{value:,.0f}<small>{share:.1%}</small></td>'


def columns_table(columns: Sequence[ReportColumn]) -> str:
    """The data summary."""
    heads = [("column", ""), ("type", ""), ("use", ""), ("missing", "n"), ("distinct", "n"), ("from", "n"), ("to", "n")]
    rows = []
    for column in columns[: report_data.MOST_COLUMNS]:
        missing = "" if column.missing is None else f"{column.missing:.1%}"
        if column.missing:
            missing = f'<i class="share" style="width: {max(2, round(40 * column.missing))}px"></i>{missing}'
        distinct = "" if column.distinct is None else f"{column.distinct:,}"
        rows.append(
            [
                (f"<b>{text(column.name, 60)}</b>", "t"), (f"<code>{text(column.type, 40)}</code>", "c"), (text(column.use, 60), ""),
                (missing, "n"), (distinct, "n"), (text(column.low, 24), "n"), (text(column.high, 24), "n"),
            ]
        )  # fmt: skip
    more = len(columns) - len(rows)
    return _table(heads, rows) + (f'<p class="sub">and {more:,} columns more</p>' if more else "")


def stages(data: ReportData, colors: Mapping[str, str]) -> str:
    """The seconds of each stage as one stacked bar with its legend."""
    total = sum(data.stages.values()) or 1.0
    spent = {name: seconds for name, seconds in data.stages.items() if seconds > 0}
    bar = "".join(
        f'<i style="flex: {seconds / total:.5f} 1 0; background: {colors[name]}" title="{text(name)}: {seconds:.2f} s"></i>'
        for name, seconds in spent.items()
    )
    legend = "".join(
        f'<li><i style="background: {colors[name]}"></i><span>{text(name)}</span><b>{seconds:.2f} s · {seconds / total:.0%}</b></li>'
        for name, seconds in spent.items()
    )
    return f'<h3>{total:.1f} seconds by stage</h3><div class="stages">{bar}</div><ul class="legend">{legend}</ul>'


def account(spent: Account) -> str:
    """How the worker-seconds were spent: one bar for all, and a table by stage."""
    shares = spent.shares()
    bar = "".join(
        f'<i style="flex: {max(0.0, shares[kind]):.5f} 1 0; background: {color}" title="{name}: {shares[kind]:.1%}"></i>'
        for kind, (name, color) in SPENT.items()
    )
    legend = "".join(
        f'<li><i style="background: {color}"></i><span>{name}</span><b>{shares[kind]:.1%}</b></li>'
        for kind, (name, color) in SPENT.items()
    )
    rows = [_account_row(stage, entry) for stage, entry in spent.stages.items()]
    rows.append(_account_row("all", spent.spent))
    heads = [("worker-seconds", ""), *((SPENT[kind][0], "n") for kind in KINDS)]
    loss = largest_loss(spent.to_dict())
    said = "".join(f'<p class="sub">{text(line, 500)}</p>' for line in ([loss] if loss else []) + list(spent.notes))
    return (
        f"<h3>{spent.worker_seconds:,.1f} worker-seconds: all threads of all workers, while they took part, up to this page</h3>"
        f'<div class="stages">{bar}</div><ul class="legend">{legend}</ul><h3>By stage</h3>{_table(heads, rows)}{said}'
        '<p class="sub">waiting: for peers that still work on the same; other: in a task but not computing, for files, '
        "locks, other programs, imports, Dask itself (the column by stage shows where); idle: no task, the client works</p>"
    )


def _account_row(name: str, spent: StageTime) -> list[tuple[str, str]]:
    cells = [getattr(spent, kind) for kind in KINDS]
    return [(text(name), ""), *((f"{value:,.2f}" if value >= 0.005 else "", "n") for value in cells)]


def planned(beside: Mapping[str, Mapping[str, Mapping[str, float]]], totals: Mapping[str, Sequence[float]]) -> str:
    """What was planned beside what was measured: seconds and memory by stage, then in all with the interval.

    `beside`: "wall", "cpu", "rss" -> stage -> "planned", "measured"; `totals`: the same -> planned, low, high, measured.
    """
    titles = {"wall": ("seconds", 1.0), "cpu": ("CPU seconds", 1.0), "rss": ("memory of a worker, MiB", 2.0**20)}
    tables = []
    for kind, (title, unit) in titles.items():
        stages = beside.get(kind) or {}
        rows = [_planned_row(stage, one["planned"] / unit, one["measured"] / unit) for stage, one in stages.items()]
        if kind in totals:
            middle, low, high, measured = (value / unit for value in totals[kind])
            name = "largest" if kind == "rss" else "all"
            rows.append(_planned_row(f"{name}; planned {low:,.1f} to {high:,.1f}", middle, measured))
        if rows:
            tables.append(_table([(title, ""), ("planned", "n"), ("measured", "n"), ("ratio", "n")], rows))
    note = (
        '<p class="sub">planned: before the first task, for the rounds that were trained; the report itself is not in it. '
        "The interval should hold for four of five runs. Each run corrects the plans after it.</p>"
    )
    return f"<h3>Planned and measured</h3>{''.join(tables)}{note}" if tables else ""


def _planned_row(name: str, expected: float, measured: float) -> list[tuple[str, str]]:
    ratio = f"{measured / expected:.2f}" if expected > 0 else ""
    return [(text(name), ""), (f"{expected:,.2f}", "n"), (f"{measured:,.2f}", "n"), (ratio, "n")]


def timeline_legend(data: ReportData, colors: Mapping[str, str]) -> str:
    """The legend of the workers' stages by color."""
    names = dict.fromkeys(bar.stage for bar in data.timeline)
    items = "".join(f'<li><i style="background: {colors[name]}"></i><span>{text(name)}</span></li>' for name in names)
    return f'<ul class="legend">{items}</ul>'


def incidents(data: ReportData) -> str:
    """The run's interruptions with their times; the dashed lines of the timeline."""
    items = "".join(
        f"<li>{seconds:,.1f} s: {text(line[:1].upper() + line[1:], 400)}</li>" for seconds, line in data.incidents
    )
    return f'<h3>What interrupted it</h3><ul class="notes">{items}</ul>' if items else ""


def notes(lines: Sequence[str]) -> str:
    """The notes of the run."""
    return f'<ul class="notes">{"".join(f"<li>{text(line, 500)}</li>" for line in lines)}</ul>'


def job_table(job: Mapping[str, Any]) -> str:
    """Every setting of the job, by its path; folded away."""
    rows = [
        [(f"<code>{text(path, 120)}</code>", "t"), (f"<code>{text(value, 400)}</code>", "t")]
        for path, value in _flat(job)
    ]
    return f"<details><summary>All {len(rows)} settings</summary>{_table([('setting', ''), ('value', '')], rows)}</details>"


def _table(heads: Sequence[tuple[str, str]], rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    """A table of cells (HTML, class); the HTML is trusted: callers escape."""
    top = "".join(f'<th class="{kind}">{cell}</th>' for cell, kind in heads)
    body = "".join("<tr>" + "".join(f'<td class="{kind}">{cell}</td>' for cell, kind in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def footer(data: ReportData) -> str:
    """The footer: versions of the software that made the model."""
    return f"<footer>{' · '.join(f'{text(name)} {text(version)}' for name, version in data.versions.items())}</footer>"


def _number(value: object) -> str:
    return number(value) if isinstance(value, (int, float)) else "–"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """(path, value) of every setting that is not None."""
    found: list[tuple[str, object]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            found.extend(_flat(value, f"{prefix}{key}."))
        elif value is not None:
            found.append((f"{prefix}{key}", value))
    return found
