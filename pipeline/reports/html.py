"""Writes report.html: a self-contained page, scripts included, without network requests."""

import re
from collections.abc import Callable
from typing import Any

from pipeline.reports import parts
from pipeline.reports.data import ReportData, metric_names
from pipeline.reports.style import CSS

MOST_LEARNING = 6  # metrics that get a learning curve
MOST_BESIDE = 6  # classes whose confusion matrix fits next to another card


def report_html(data: ReportData) -> str:
    """The page.  Bokeh is imported only here."""
    from bokeh.embed import components
    from bokeh.resources import Resources

    page = _Page()
    _learning(page, data)
    _quality(page, data)
    _features(page, data)
    _data(page, data)
    _time(page, data)
    script, places = components(page.figures) if page.figures else ("", {})
    body = re.sub("\0(\\w+)\0", lambda found: places[found[1]], "".join(page.pieces))
    library = Resources(mode="inline", components=["bokeh"], minified=True).render_js() if page.figures else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; img-src data: blob:; font-src data:\">\n"
        f"<title>{parts.text(data.title)}</title>\n<style>{CSS}</style>\n{library}\n</head>\n"
        f"<body>\n{parts.header(data)}\n<main>\n{body}\n</main>\n{parts.footer(data)}\n{script}\n</body>\n</html>\n"
    )


class _Page:
    """Sections of cards; a figure is a placeholder, its name between nulls, until Bokeh has rendered it."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.figures: dict[str, Any] = {}

    def section(self, title: str, cards: list[str]) -> None:
        if cards := [card for card in cards if card]:
            self.pieces.append(f'<section><h2>{title}</h2><div class="grid">{"".join(cards)}</div></section>\n')

    def figure(self, name: str, make: Callable[..., Any], *arguments: object) -> str:
        figure = self.figures[name] = make(*arguments)
        title = f"<h3>{parts.text(figure.title.text)}</h3>" if figure.title.text else ""
        return title + f"\0{name}\0"  # no text from outside contains a null


def _card(content: str, *, wide: bool = False) -> str:
    return f'<div class="card{" wide" if wide else ""}">{content}</div>' if content else ""


def _learning(page: _Page, data: ReportData) -> None:
    from pipeline.reports import figures

    names = metric_names(data.history, data.best_round)[:MOST_LEARNING]
    places = [page.figure(f"learning{i}", figures.learning, data, name) for i, name in enumerate(names)]
    odd = len(places) % 2 == 1
    page.section("Learning", [_card(place, wide=odd and i == 0) for i, place in enumerate(places)])


def _quality(page: _Page, data: ReportData) -> None:
    from pipeline.reports import figures

    cards = []
    kept = [curve for curve in data.curves.values() if curve.classes]
    if kept:
        wanted = (("roc", figures.roc), ("pr", figures.precision_recall), ("calibration", figures.calibration))
        cards += [_card(page.figure(name, make, data)) for name, make in wanted]
    judged = data.curves.get(data.judged)
    if judged is not None and judged.errors is not None:
        cards.append(_card(page.figure("errors", figures.errors, data)))
    if judged is not None and judged.fit is not None:
        cards.append(_card(page.figure("fit", figures.fit, data)))
    if judged is not None and judged.queries is not None:
        cards.append(_card(page.figure("queries", figures.queries, data)))
    metrics = f"<h3>Exact metrics</h3>{parts.metrics_table(data)}"
    confusion = parts.confusion(data)
    if len(data.target.classes) > MOST_BESIDE:
        cards += [_card(metrics), _card(confusion, wide=True)]
    else:
        cards.append(_card(confusion + metrics, wide=len(cards) % 2 == 0))
    page.section("How good it is", cards)


def _features(page: _Page, data: ReportData) -> None:
    from pipeline.reports import figures

    cards = [
        _card(page.figure(name, figures.importance, data, name), wide=not (data.gain and data.permutation))
        for name in ("gain", "permutation")
        if getattr(data, name)
    ]
    page.section("What it uses", cards)


def _data(page: _Page, data: ReportData) -> None:
    cards = []
    if data.columns:
        cards.append(_card(parts.columns_table(data.columns), wide=True))
    if data.notes:
        cards.append(_card(f"<h3>Worth knowing</h3>{parts.notes(data.notes)}", wide=True))
    page.section("The data", cards)


def _time(page: _Page, data: ReportData) -> None:
    from pipeline.reports import figures

    colors = figures.stage_colors(data)
    cards = []
    if data.stages:
        cards.append(_card(parts.stages(data, colors), wide=True))
    if data.account is not None:
        cards.append(_card(parts.account(data.account), wide=True))
    if data.planned and (table := parts.planned(data.planned, data.planned_totals)):
        cards.append(_card(table, wide=True))
    if data.timeline:
        place = page.figure("timeline", figures.timeline, data, colors)
        legend = parts.timeline_legend(data, colors)
        cards.append(_card(f"<h3>What each worker did</h3>{place}{legend}{parts.incidents(data)}", wide=True))
    page.section("Where the time went", cards)
    if data.job:
        page.section("The job", [_card(parts.job_table(data.job), wide=True)])
