"""Writes report.html of a scaling run, and its pictures: a self-contained page without network requests."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.efficiency.machine import Machine
from pipeline.efficiency.records import Result
from pipeline.reports.style import CSS
from pipeline.scaling import report_tables as tables
from pipeline.scaling.chart_style import Picture
from pipeline.scaling.checks import checks
from pipeline.scaling.pictures import pictures
from pipeline.scaling.report_tables import milliseconds, number, text
from pipeline.scaling.view import BaselineTimes, PointSummary, base_of, headline_point, summarise_points

REPORT = "report.html"
STYLE = """
.heads { grid-template-columns: repeat(3, minmax(0, 1fr)); }
.head b { display: flex; align-items: center; gap: 12px; min-height: 42px; font-size: 30px; }
.head small { font-size: 13px; line-height: 1.35; font-weight: 400; color: var(--muted); }
.head p { margin: 6px 0 0; font-size: 13.5px; color: var(--ink); }
.card svg { width: 100%; height: auto; display: block; } .card p.sub { font-size: 13px; margin: 6px 0 0; }
.card.wide svg { max-width: 600px; margin: 0 auto; }
.said { font-size: 16px; margin: 0; } .said p:last-child { margin: 0; }
@media (max-width: 760px) { .heads { grid-template-columns: minmax(0, 1fr); } .said { font-size: 15px; } }
"""


def write_report(result: Result, machine: Machine | None, folder: Path) -> None:
    """Writes report.html and a PNG for each picture."""
    for name, picture in pictures(result, machine, "png").items():
        (folder / f"{name}.png").write_bytes(picture.content)
    (folder / REPORT).write_text(report_html(result, machine), encoding="utf-8")


def report_html(result: Result, machine: Machine | None) -> str:
    """The page."""
    points, drawn = summarise_points(result), pictures(result, machine, "svg")
    said = f'<div class="said">{"".join(f"<p>{text(line)}</p>" for line in result.sentences)}</div>'
    sections = [
        _section("In words", [_card(said, wide=True)] if result.sentences else []),
        _section("Where the time goes", _charts(drawn, "seconds", "split")),
        _section("How efficient that is", [_card(tables.factors(points), wide=True)] if points else []),
        _section("Predicted, then measured", _predicted(points, drawn)),
        _section("With more workers than here", _charts(drawn, "far_seconds", "far_efficiency")),
        _section("What is exchanged", _exchanged(points, drawn)),
        _section("Worker by worker", [_card(tables.workers(points), wide=True)] if points else []),
        _section("How far to trust it", [_card(tables.trust(found), wide=True)] if (found := checks(result)) else []),
        _section("Circumstances", [_card(tables.circumstances(result, machine), wide=True)]),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{text(result.name)}</title>\n<style>{CSS}{tables.STYLE}{STYLE}</style>\n</head>\n<body>\n"
        f"{_header(result)}\n<main>\n{''.join(sections)}\n</main>\n<footer></footer>\n</body>\n</html>\n"
    )


def _header(result: Result) -> str:
    """The headline: GE, then PE, then E with its seconds."""
    point = headline_point(result)
    lines = [text(result.name)]
    heads = ""
    if point is None:
        lines.append("Nothing was measured.")
    else:
        where, repetitions = point.configuration, max(len(p.samples) for p in result.points)
        lines.append(
            f"{_count(where.workers, 'worker')} of {_count(where.threads, 'thread')} · {where.mode} scaling · "
            f"{_count(repetitions, 'repetition')} of {_count(where.rounds, 'round')}, medians"
        )
        heads = _global(point, base_of(result, where)) + _parallel(point) + _efficiency(point)
    paragraphs = "".join(f'<p class="sub">{line}</p>' for line in lines)
    return f'<header><div><h1>How training scales</h1>{paragraphs}<div class="heads">{heads}</div></div></header>'


def _global(point: PointSummary, base: BaselineTimes | None) -> str:
    name, now = "GE, global efficiency", milliseconds(point.seconds.median)
    if base is None or point.GE is None:
        return _head(name, "–", "No single process was measured on the same cores: nothing to compare with.")
    alone = f"with all {base.threads} threads" if base.threads > 1 else "with one thread"
    who = f"One process {alone}" if base.all_threads else f"One worker alone, {alone},"
    return _head(
        name, number(point.GE),
        f"{who} takes {milliseconds(base.seconds)} for a round of these rows, {_count(point.workers, 'worker')} {now}. "
        f"At 1 the cluster would cost nothing.",
    )  # fmt: skip


def _parallel(point: PointSummary) -> str:
    said = "" if point.predicted is None else f"predicted<br>{number(point.predicted.figures.PE)}"
    return _head(
        "PE, parallel efficiency", number(point.PE),
        f"{point.PE:.0%} of all workers' time is compute, the rest is overhead: transfer, waiting, other.", said,
    )  # fmt: skip


def _efficiency(point: PointSummary) -> str:
    useful = point.mean("useful")
    total, overhead = milliseconds(point.seconds.median), milliseconds(max(0.0, point.seconds.median - useful))
    seconds = f"{milliseconds(useful)} compute,<br>{overhead} overhead; T {total}"
    if point.E is None or point.workers == 1:
        value = "–" if point.workers == 1 else "saturated"
        why = "There is one worker" if point.workers == 1 else "The overhead is below the clock's resolution"
        return _head("E, compute per overhead", value, f"{why}: no figure.", seconds)
    return _head(
        "E, compute per overhead", number(point.E, digits=2),
        f"Every second of overhead comes with {point.E:.2f} seconds of compute. Slow compute raises it too: read it with "
        "its seconds.", seconds,
    )  # fmt: skip


def _head(name: str, value: str, about: str, beside: str = "") -> str:
    small = f"<small>{beside}</small>" if beside else ""
    return f'<div class="head"><span>{name}</span><b>{value}{small}</b><p>{about}</p></div>'


def _predicted(points: Sequence[PointSummary], drawn: dict[str, Picture]) -> list[str]:
    table = tables.predictions(points)
    return ([_card(table, wide=True)] if table else []) + _charts(drawn, "predicted", "serial_fraction")


def _exchanged(points: Sequence[PointSummary], drawn: dict[str, Picture]) -> list[str]:
    contents = [_figure(drawn["allreduce"])] if "allreduce" in drawn else []
    if table := tables.traffic(points):
        contents.append(table)
    return [_card(content, wide=len(contents) == 1) for content in contents]


def _charts(drawn: dict[str, Picture], *names: str) -> list[str]:
    """Charts in two columns; a single chart in the middle."""
    there = [drawn[name] for name in names if name in drawn]
    return [_card(_figure(picture), wide=len(there) == 1) for picture in there]


def _figure(picture: Picture) -> str:
    named = picture.content.decode().replace("<svg", f'<svg role="img" aria-label="{text(picture.title)}"', 1)
    return f'<h3>{text(picture.title)}</h3>{named}<p class="sub">{text(picture.caption)}</p>'


def _section(title: str, cards: Sequence[str]) -> str:
    return f'<section><h2>{title}</h2><div class="grid">{"".join(cards)}</div></section>\n' if cards else ""


def _card(content: str, *, wide: bool = False) -> str:
    return f'<div class="card{" wide" if wide else ""}">{content}</div>'


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
