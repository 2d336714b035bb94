"""From a finished training to its model folder, and to what there is to say about it."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from pipeline.cluster.memory import PeakMemory
from pipeline.data.target import Target
from pipeline.model import importance
from pipeline.model.artifact import REPORT, Model, ModelParts, save
from pipeline.model.assemble import Trained, make_manifest
from pipeline.model.card import card
from pipeline.model.manifest import Manifest
from pipeline.model.report_data import Bar, ColumnSummary, ReportData
from pipeline.preprocess.column_statistics import AnyColumn, CategoryColumn, NumberColumn, TimeColumn
from pipeline.preprocess.passes import Prepared, result_of
from pipeline.stages import span
from pipeline.training.boost import Evaluation
from pipeline.training.rounds import RoundsResult
from pipeline.walk import Walk


@dataclass(frozen=True)
class Finished:
    """Everything a run has led to, before it is written."""

    prepared: Prepared
    result: RoundsResult
    evaluation: Evaluation
    folder: Path
    peak: PeakMemory


@dataclass(frozen=True)
class Importance:
    """What each feature is worth, by name."""

    gain: dict[str, float]
    permutation: dict[str, float]
    unit: str


def default_folder(run: str) -> str:
    """A dated folder under models/, e.g. models/2026-11-21-031502-1f0c."""
    return f"models/{datetime.datetime.now():%Y-%m-%d-%H%M%S}-{run[:4]}"


def finish(walk: Walk, done: Finished) -> tuple[Model, dict[str, Any]]:
    """Writes the model folder; gives the model and the summary that `pipeline train --json` prints.

    The report shows the stages that are over when it is made: its own seconds are in the summary alone.
    """
    manifest = _manifest(walk, done)
    report, pictures, gain = None, {}, dict[str, float]()
    if walk.job.output.report:
        with walk.clock.stage("report"):
            found = _importance(walk, done)
            gain = found.gain
            report, pictures = _report(walk, done, manifest, found)
    metrics = {
        **done.evaluation.metrics,
        "history": done.result.history,
        "round_seconds": done.result.round_seconds,
        "seconds": walk.clock.close(),
        "peak_memory_nbytes": done.peak.sample_peak(),
    }
    with walk.clock.stage("save"):
        parts = ModelParts(
            booster=done.result.model,
            recipe=done.prepared.fitted.recipe,
            manifest=manifest,
            metrics=metrics,
            card=card(manifest, done.evaluation.metrics, list(gain)),
            report=report,
            pictures=pictures,
        )
        model = save(done.folder, parts, overwrite=walk.job.output.overwrite)
    return model, _summary(walk, done, model)


def _manifest(walk: Walk, done: Finished) -> Manifest:
    statistics = done.prepared.fitted.statistics
    trained = Trained(
        target=done.prepared.target,
        recipe=done.prepared.fitted.recipe,
        rounds=done.result.rounds,
        best_round=done.result.best_round,
        rows={"train": statistics.rows, "validation": statistics.validation_rows, "dropped": statistics.dropped},
        created=datetime.datetime.now(datetime.UTC),
        notes=tuple(walk.notes),
    )
    return make_manifest(done.prepared.inputs, walk.job, trained)


def _importance(walk: Walk, done: Finished) -> Importance:
    """Computed on the cluster: XGBoost runs there."""
    fitted, seed = done.prepared.fitted, walk.job.training.seed
    arguments = (done.prepared.target, fitted.preview, fitted.preview_label, seed)
    found: Importance = result_of(walk.client.submit(_measure_importance, done.result.model, *arguments, pure=False))
    return found


def _measure_importance(
    model: bytes, target: Target, preview: np.ndarray, label: np.ndarray | None, seed: int
) -> Importance:
    with span("report"):
        booster = xgboost.Booster({"verbosity": 0}, model_file=bytearray(model))
        gain = importance.gain(booster)
        if label is None:
            return Importance(gain, {}, "")
        return Importance(gain, *importance.permutation(booster, target, preview, label, seed=seed))


def _report(walk: Walk, done: Finished, manifest: Manifest, found: Importance) -> tuple[str, Mapping[str, bytes]]:
    from pipeline.model.pictures import pictures
    from pipeline.model.report import report_html

    begin = walk.clock.begin
    data = ReportData(
        title=f"{done.folder.name}: {manifest.target.column}",
        created=manifest.created,
        target=manifest.target,
        metrics=done.evaluation.metrics,
        history=done.result.history,
        best_round=done.result.best_round,
        gain=found.gain,
        permutation=found.permutation,
        permutation_unit=found.unit,
        curves=done.evaluation.curves,
        facts=_facts(walk, done, manifest),
        columns=_columns(done.prepared),
        stages=dict(walk.clock.seconds),
        timeline=[Bar(span.worker, span.stage, span.start - begin, span.stop - begin) for span in walk.spans],
        job=manifest.job,
        notes=manifest.notes,
        versions=manifest.versions,
    )
    return report_html(data), pictures(data)


def _facts(walk: Walk, done: Finished, manifest: Manifest) -> dict[str, str]:
    """Numbers and what they count, as the report's first lines say them."""
    workers, dropped = walk.placement.workers, manifest.rows["dropped"]
    oversubscribed = ", oversubscribed" if walk.placement.oversubscribed else ""
    return {
        "training rows": f"{manifest.rows['train']:,}",
        "validation rows": f"{manifest.rows['validation']:,}",
        **{f"left out ({reason})": f"{rows:,}" for reason, rows in dropped.items()},
        "features": f"{len(manifest.features):,}",
        f"rounds, {manifest.best_round:,} kept": f"{done.result.rounds:,}",
        f"workers of {max(worker.threads for worker in workers)} threads ({walk.placement.device}{oversubscribed})": str(
            len(workers)
        ),
        f"GB at the peak ({done.peak.measure.upper()} of all processes)": f"{done.peak.sample_peak() / 1e9:.2f}",
    }


def _columns(prepared: Prepared) -> list[ColumnSummary]:
    """What the training rows of each feature column hold."""
    statistics, recipe = prepared.fitted.statistics, prepared.fitted.recipe
    return [
        _summarised(name, statistics.types[name], column, max(1, statistics.rows), recipe.dropped.get(name))
        for name, column in statistics.columns.items()
    ]


def _summarised(name: str, dtype: str, column: AnyColumn, rows: int, dropped: str | None) -> ColumnSummary:
    use = "feature" if dropped is None else f"left out: {dropped}"
    summary = ColumnSummary(name, dtype, use, missing=column.missing / rows)
    if isinstance(column, NumberColumn) and column.low <= column.high:
        return replace(summary, low=f"{column.low:.6g}", high=f"{column.high:.6g}")
    if isinstance(column, CategoryColumn):
        return replace(summary, distinct=len(column.counts.rows))
    if isinstance(column, TimeColumn) and column.low is not None and column.high is not None:
        return replace(summary, low=_moment(column.low), high=_moment(column.high))
    return summary


def _moment(seconds: int) -> str:
    moment = np.datetime64("1970-01-01T00:00:00") + np.timedelta64(seconds, "s")
    return str(moment).replace("T", " ").removesuffix(" 00:00:00")


def _summary(walk: Walk, done: Finished, model: Model) -> dict[str, Any]:
    workers, manifest = walk.placement.workers, model.manifest
    return {
        "model": str(model.path),
        "report": str(model.path / REPORT) if walk.job.output.report else None,
        "sha256": model.sha256,
        "objective": manifest.target.objective,
        "rows": manifest.rows,
        "features": len(manifest.features),
        "workers": len(workers),
        "threads": max(worker.threads for worker in workers),
        "device": walk.placement.device,
        "oversubscribed": walk.placement.oversubscribed,
        "rounds": manifest.rounds,
        "best_round": manifest.best_round,
        "metrics": done.evaluation.metrics,
        "seconds": walk.clock.close(),
        "peak_memory_nbytes": done.peak.sample_peak(),
        "peak_memory_measure": done.peak.measure,
        "versions": manifest.versions,
        "notes": list(walk.notes),
    }
