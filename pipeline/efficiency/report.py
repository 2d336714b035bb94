"""report.html of a scaling run, and its pictures: one page that holds all it shows and asks the network for nothing."""

import html
from collections.abc import Sequence
from pathlib import Path

from pipeline.efficiency.machine import Machine
from pipeline.efficiency.pictures import GOOD, PARTS, pictures
from pipeline.efficiency.record import Result
from pipeline.efficiency.view import Seen, base_case, seen
from pipeline.model.report_style import CSS

REPORT = "report.html"
ABOUT = {  # figure -> what it says, in one sentence
    "GE": "core-seconds that the best single process needs, over those of the workers; 1 means the cluster costs nothing",
    "PE": "share of all workers' time that is compute (POP's parallel efficiency)",
    "E": "seconds of compute for every second of overhead; to be read with T, J and PE",
}
FACTORS = ("GE", "PE", "LB", "CommE", "SerE", "TE", "CompS")
FACTOR_NAMES = {
    "GE": "global efficiency, against the best single process",
    "PE": "parallel efficiency = LB x CommE",
    "LB": "load balance: mean over longest useful time",
    "CommE": "communication efficiency = SerE x TE",
    "SerE": "serialisation efficiency: what an infinitely fast network would leave of CommE",
    "TE": "transfer efficiency",
    "CompS": "computation scalability: compute of one worker over that of all",
}
STYLE = """
td.t { padding-left: 14px; } ul.notes { margin-top: 12px; }
td.good { background: #d5efe6; } td.bad { background: #fbe3d0; }
.card svg { width: 100%; height: auto; display: block; }
.said { font-size: 16px; } .said p { margin: 0 0 10px; }
.head i { font-style: normal; display: block; color: var(--muted); font-size: 13px; margin-top: 4px; }
"""


def write_report(result: Result, machine: Machine | None, folder: Path) -> None:
    """Writes report.html and a PNG for each picture."""
    for name, content in pictures(result, machine, "png").items():
        (folder / f"{name}.png").write_bytes(content)
    (folder / REPORT).write_text(report_html(result, machine), encoding="utf-8")


def report_html(result: Result, machine: Machine | None) -> str:
    """The page."""
    points = seen(result)
    drawn = {name: content.decode() for name, content in pictures(result, machine, "svg").items()}
    cards = [_card(drawn[name]) for name in ("seconds", "split") if name in drawn]
    sections = [
        _section("In words", [_card(f'<div class="said">{_paragraphs(result.sentences)}</div>', wide=True)]),
        _section("Measured", cards),
        _section("Factors", [_card(_factors(points), wide=True)]),
        _section("Predicted", [_card(_predictions(points), wide=True), *_cards(drawn, ("predicted", "far"))]),
        _section("What scaling is made of", _cards(drawn, ("allreduce", "serial_fraction"))),
        _section("Worker by worker", [_card(_workers(points), wide=True)]),
        _section("Circumstances", [_card(_circumstances(result, machine), wide=True)]),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{_text(result.name)}</title>\n<style>{CSS}{STYLE}</style>\n</head>\n<body>\n{_header(result, points)}\n"
        f"<main>\n{''.join(sections)}\n</main>\n</body>\n</html>\n"
    )


def _header(result: Result, points: Sequence[Seen]) -> str:
    """The headline: GE, then PE, then E with its seconds beside it, of the point with the most workers."""
    told = max(
        points,
        key=lambda p: (not p.configuration.oversubscribed, p.configuration.mode == "strong", p.workers),
        default=None,
    )
    heads = ""
    if told is not None:
        seconds = f"{1e3 * told.seconds.median:.2f} ms a round, {1e3 * told.mean('useful'):.2f} ms of it useful"
        heads = (
            _head("GE, global efficiency", _number(told.GE), ABOUT["GE"])
            + _head("PE, parallel efficiency", _number(told.PE), ABOUT["PE"])
            + _head("E", _figure(told), f"{seconds}; {ABOUT['E']}")
        )
    where = (
        f"{_count(told.workers, 'worker')} of {_count(told.configuration.threads, 'thread')}, {told.configuration.mode} scaling"
        if told
        else ""
    )
    return (
        f'<header><div><h1>How it scales</h1><p class="sub">{_text(result.name)}</p>'
        f'<p class="sub">{where}</p><div class="heads">{heads}</div></div></header>'
    )  # fmt: skip


def _head(name: str, value: str, about: str) -> str:
    return f'<div class="head"><span>{name}</span><b>{value}</b><i>{about}</i></div>'


def _factors(points: Sequence[Seen]) -> str:
    """POP's factors by number of workers; 0.8 and more is good."""
    heads = "".join(f'<th class="n">{_label(point)}</th>' for point in points)
    rows = []
    for name in FACTORS:
        cells = "".join(_graded(getattr(point, name)) for point in points)
        rows.append(f'<tr><td><b>{name}</b></td>{cells}<td class="t">{FACTOR_NAMES[name]}</td></tr>')
    return f'<div class="scroll"><table><tr><th></th>{heads}<th></th></tr>{"".join(rows)}</table></div>'


def _graded(value: float | None) -> str:
    if value is None:
        return '<td class="n">–</td>'
    return f'<td class="n {"good" if value >= GOOD else "bad"}">{value:.3f}</td>'


def _predictions(points: Sequence[Seen]) -> str:
    """Measured, predicted, ratio."""
    rows = []
    for point in points:
        if (said := point.predicted) is None:
            continue
        pairs = [
            (
                f"{1e3 * point.seconds.median:.2f} ms",
                f"{1e3 * said.seconds:.2f} ms",
                said.seconds / point.seconds.median,
            ),
            (f"{point.PE:.3f}", f"{said.figures.PE:.3f}", said.figures.PE / point.PE),
        ]
        if point.E is not None and said.figures.E is not None and point.workers > 1:
            pairs.append((f"{point.E:.2f}", f"{said.figures.E:.2f}", said.figures.E / point.E))
        else:
            pairs.append(("–", "–", float("nan")))
        cells = "".join(
            f'<td class="n">{was}</td><td class="n">{will}</td><td class="n">{"" if ratio != ratio else f"{ratio:.2f}"}</td>'
            for was, will, ratio in pairs
        )
        note = "oversubscribed: no check of the model" if point.configuration.oversubscribed else ""
        rows.append(f"<tr><td>{_label(point)}</td>{cells}<td>{note}</td></tr>")
    heads = "".join(
        f'<th class="n">{name}</th><th class="n">predicted</th><th class="n">ratio</th>' for name in ("T", "PE", "E")
    )
    return (
        f'<div class="scroll"><table><tr><th></th>{heads}<th></th></tr>{"".join(rows)}</table></div>'
        if rows
        else "Nothing was predicted."
    )


def _workers(points: Sequence[Seen]) -> str:
    """u, x, w and o of every worker, with the rows it has."""
    heads = "".join(f'<th class="n">{name}</th>' for name in ("rows", *(name for name, _ in PARTS.values()), "useful"))
    rows = []
    for point in points:
        for rank, split in enumerate(point.splits):
            values = "".join(f'<td class="n">{1e3 * getattr(split, part):.2f} ms</td>' for part in PARTS)
            share = split.useful / point.seconds.median
            rows.append(
                f'<tr><td>{_label(point)}, worker {rank}</td><td class="n">{point.configuration.rows[rank]:,}</td>'
                f'{values}<td class="n">{share:.0%}</td></tr>'
            )
    return f'<div class="scroll"><table><tr><th></th>{heads}</tr>{"".join(rows)}</table></div>'


def _circumstances(result: Result, machine: Machine | None) -> str:
    around = result.circumstances
    facts = {str(key): str(value) for key, value in around.get("machine", {}).items() if value not in ([], None)}
    facts |= {"versions": ", ".join(f"{name} {version}" for name, version in around.get("versions", {}).items())}
    facts |= {"time": str(around.get("time", "")), "commit": str(around.get("commit", ""))}
    if machine is not None:
        facts["calibration"] = f"{machine.made}, {machine.seconds:.1f} s, residuals {machine.spread:.1%}"
    for mode in dict.fromkeys(single.mode for single in result.singles):
        if (single := base_case(result, mode)) is not None:
            seconds = sorted(single.seconds)[len(single.seconds) // 2]
            facts[f"base case, {mode}"] = (
                f"{_count(single.threads, 'thread')}, {1e3 * seconds:.2f} ms a round {single.note}"
            )
    closures = [point.closure for point in seen(result) if point.closure is not None]
    if closures:
        facts["closure |u + x + w + o - T| / T"] = f"{max(closures):.1%} at most (medians)"
    counted = [point.bytes_exact for point in seen(result) if point.bytes_exact is not None and point.workers > 1]
    if counted:
        facts["bytes sent"] = (
            "as computed from the trees, to the byte" if all(counted) else "differ from those computed"
        )
    rows = "".join(f'<tr><th>{_text(name)}</th><td class="t">{_text(value)}</td></tr>' for name, value in facts.items())
    return f"<table>{rows}</table>{_notes(result.notes)}"


def _notes(notes: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{_text(note)}</li>" for note in notes)}</ul>' if notes else ""


def _cards(drawn: dict[str, str], names: Sequence[str]) -> list[str]:
    return [_card(drawn[name]) for name in names if name in drawn]


def _section(title: str, cards: Sequence[str]) -> str:
    return f'<section><h2>{title}</h2><div class="grid">{"".join(cards)}</div></section>\n' if cards else ""


def _card(content: str, *, wide: bool = False) -> str:
    return f'<div class="card{" wide" if wide else ""}">{content}</div>'


def _paragraphs(lines: Sequence[str]) -> str:
    return "".join(f"<p>{_text(line)}</p>" for line in lines)


def _label(point: Seen) -> str:
    return f"{point.configuration.mode} {point.workers}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _figure(point: Seen) -> str:
    if point.E is None:
        return "saturated" if point.workers > 1 else "–"
    return f"{point.E:.2f}"


def _text(value: object) -> str:
    return html.escape(str(value))
