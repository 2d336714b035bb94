"""Draws the report about a finished training: the page and its pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pipeline.efficiency.account import Account
from pipeline.metrics.curves import Curves
from pipeline.model import importance
from pipeline.model.manifest import Manifest
from pipeline.preprocess.recipe import Recipe
from pipeline.preprocess.statistics.collect import Statistics
from pipeline.preprocess.statistics.column_statistics import AnyColumn, CategoryColumn, NumberColumn, TimeColumn
from pipeline.reports.data import Bar, ReportColumn, ReportData, number
from pipeline.reports.html import report_html
from pipeline.reports.pictures import pictures
from pipeline.runtime.timing import Span

UNFINISHED = ("report", "other", "elsewhere")  # stages of an audit that the drawing of the report belongs to


@dataclass(frozen=True)
class ReportInput:
    """The results of a training whose model is complete."""

    name: str  # of the model folder
    manifest: Manifest
    recipe: Recipe
    booster: Any  # xgboost.Booster of this run
    metrics: Mapping[str, Mapping[str, Any]]  # "train", "validation"
    curves: Mapping[str, Curves]  # the same keys
    history: Mapping[str, Sequence[float]]  # "validation.logloss" -> value per round
    statistics: Statistics
    preview: np.ndarray  # (sampled training rows, features) float32
    preview_label: np.ndarray  # (sampled training rows,) float32
    workers: int
    seconds: Mapping[str, float]  # stage -> seconds, without the total
    spans: Sequence[Span] = ()
    begin: float = 0.0  # of the run, seconds since the epoch
    account: Account | None = None  # where the worker-seconds went
    incidents: Sequence[tuple[float, str]] = ()  # (seconds since the beginning, incident)
    audit: Mapping[str, Any] | None = None  # as in audit.json


@dataclass(frozen=True)
class Report:
    """What a report consists of."""

    html: str
    pictures: dict[str, bytes]  # name without ending -> PNG


def draw_report(record: ReportInput) -> Report:
    """Draws the report in memory: no file is written."""
    data = _report_data(record)
    return Report(report_html(data), pictures(data))


def _report_data(record: ReportInput) -> ReportData:
    """The record as the report's data."""
    manifest = record.manifest
    costs, unit = importance.permutation(
        record.booster, manifest.target, record.preview, record.preview_label, seed=manifest.job["training"]["seed"]
    )
    return ReportData(
        title=record.name,
        created=f"{datetime.fromisoformat(manifest.created):%-d %B %Y, %H:%M} UTC",
        target=manifest.target,
        metrics=record.metrics,
        history=record.history,
        best_round=manifest.best_round,
        gain=importance.gain(record.booster),
        permutation=costs,
        permutation_unit=unit,
        curves=record.curves,
        facts=_facts(record),
        columns=_columns(record),
        stages=record.seconds,
        incidents=record.incidents,
        timeline=[
            Bar(
                f"worker {span.worker}" if span.worker.isdigit() else span.worker,
                span.stage,
                span.start - record.begin,
                span.stop - record.begin,
            )
            for span in record.spans
        ],
        account=record.account,
        **_planned(record.audit),
        job=manifest.job,
        notes=manifest.notes,
        versions=manifest.versions,
    )


def _planned(audit: Mapping[str, Any] | None) -> dict[str, Any]:
    """Measured beside planned, of the stages that are over when the report is drawn."""
    if audit is None:
        return {}
    stages = {
        kind: {stage: one for stage, one in of.items() if stage not in UNFINISHED}
        for kind, of in audit["stages"].items()
    }
    return {"planned": stages, "planned_totals": {name: one for name, one in audit["planned"].items() if name == "rss"}}


def _facts(record: ReportInput) -> dict[str, str]:
    rows = record.manifest.rows
    facts = {f"{use} rows": f"{rows[use]:,}" for use in ("train", "validation") if rows.get(use)}
    facts |= {
        f"rows left out ({reason})": f"{count:,}" for reason, count in (rows.get("dropped") or {}).items() if count
    }
    if bad := rows.get("bad_fragments"):
        facts["bad fragment left out" if bad == 1 else "bad fragments left out"] = f"{bad:,}"
    facts["features"] = f"{len(record.manifest.features):,}"
    facts["worker" if record.workers == 1 else "workers"] = f"{record.workers:,}"
    return facts


def _columns(record: ReportInput) -> list[ReportColumn]:
    """The features' columns as in the training rows, including those without a feature, and the target."""
    statistics, dropped = record.statistics, record.recipe.dropped
    rows = max(1, statistics.rows)
    found = []
    for name, kind in statistics.types.items():
        use = f"left out: {dropped[name]}" if name in dropped else "feature"
        column = statistics.columns.get(name)
        if column is None:
            found.append(ReportColumn(name, kind, use))
        else:
            distinct, low, high = _range(column)
            found.append(ReportColumn(name, kind, use, column.missing / rows, distinct, low, high))
    target = record.manifest.target
    types = {column.name: column.type for column in record.manifest.columns}
    classes = len(target.classes) or None
    moments = statistics.label.moments
    spread = (
        ("", "") if classes or not moments.count else (f"mean {number(moments.mean)}", f"± {number(moments.deviation)}")
    )
    found.append(ReportColumn(target.column, types.get(target.column, "derived"), "target", None, classes, *spread))
    return found


def _range(column: AnyColumn) -> tuple[int | None, str, str]:
    """(distinct values, the smallest, the largest) as far as the statistics have them."""
    if isinstance(column, CategoryColumn):
        return (None if column.counts.left_out else len(column.counts.levels)), "", ""
    if isinstance(column, NumberColumn) and column.low <= column.high:
        return None, number(column.low), number(column.high)
    if isinstance(column, TimeColumn) and column.low is not None and column.high is not None:
        return None, _date(column.low), _date(column.high)
    return None, "", ""


def _date(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):  # beyond the years 1 to 9999
        return f"{seconds} s"
