"""Saves a finished training: manifest, documents and metrics into the model folder, and the run's summary."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cluster.memory import PeakMemory, counted
from pipeline.data.skipping import Bad
from pipeline.events.findings import plain, text_of
from pipeline.events.types import incident
from pipeline.model.artifact import REPORT, Model, ModelParts, save
from pipeline.model.assemble import Trained, make_manifest
from pipeline.model.manifest import Manifest
from pipeline.preprocess.passes import Prepared
from pipeline.preprocess.statistics.statistics import Statistics
from pipeline.reports.documents import Documents, Record, write_documents
from pipeline.runtime.context import Walk
from pipeline.runtime.recorder import Ended
from pipeline.training.xgboost.boost import Evaluation
from pipeline.training.xgboost.rounds import RoundsResult


@dataclass(frozen=True)
class Finished:
    """What a run has computed before it is written."""

    prepared: Prepared
    result: RoundsResult
    evaluation: Evaluation
    folder: Path
    memory: PeakMemory
    ended: Ended  # the worker-seconds by use
    efficiency: dict[str, Any]  # of the rounds, from the meters


def default_folder(run: str) -> str:
    """Returns a dated folder under models/, e.g. models/2026-11-21-031502-1f0c."""
    return f"models/{datetime.datetime.now():%Y-%m-%d-%H%M%S}-{run[:4]}"


def finish(walk: Walk, done: Finished) -> tuple[Model, dict[str, Any]]:
    """Writes the model folder; returns the model and the summary that `pipeline train --json` prints.

    The report shows the stages that are complete when it is made: its own seconds appear in the summary only.  The
    account in the report ends when the report is made, the one in metrics.json before the folder is written, the one in
    the summary after that.
    """
    manifest = _manifest(walk, done)
    with walk.clock.stage("report" if walk.job.output.report else "save"):
        documents = _documents(walk, done, manifest)
    metrics = {
        **done.evaluation.metrics,
        "history": done.result.history,
        "round_seconds": done.result.round_seconds,
        "seconds": walk.clock.close(),
        "account": done.ended.now("saving").to_dict(),
        "efficiency": done.efficiency,
        "notes": [plain(note) for note in walk.notes],
        "incidents": [{"seconds": seconds, "message": message} for seconds, message in incidents(walk)],
        "peak_memory_nbytes": done.memory.sample_peak(),
        "peak_memory_of": counted(walk.placement.local),
    }
    with walk.clock.stage("save"):
        parts = ModelParts(
            booster=done.result.model,
            recipe=done.prepared.fitted.recipe,
            manifest=manifest,
            metrics=metrics,
            card=documents.card,
            report=documents.report,
            pictures=documents.pictures,
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
        rows=_rows(statistics, done.prepared.inputs.skipped),
        created=datetime.datetime.now(datetime.UTC),
        notes=tuple(map(text_of, walk.notes)),
    )
    return make_manifest(done.prepared.inputs, walk.job, trained)


def _rows(statistics: Statistics, skipped: Sequence[Bad]) -> dict[str, Any]:
    """Counts the rows that trained and validated, and the others by the reason why they did not."""
    dropped = dict(statistics.dropped)
    if known := sum(item.known_rows for item in skipped):
        dropped["in bad fragments"] = known
    rows = {"train": statistics.rows, "validation": statistics.validation_rows, "dropped": dropped}
    return {**rows, "bad_fragments": len(skipped)} if skipped else rows


def _documents(walk: Walk, done: Finished, manifest: Manifest) -> Documents:
    fitted = done.prepared.fitted
    record = Record(
        name=done.folder.name,
        manifest=manifest,
        recipe=fitted.recipe,
        booster=done.result.model,
        metrics=done.evaluation.metrics,
        curves=done.evaluation.curves,
        history=done.result.history,
        statistics=fitted.statistics,
        preview=fitted.preview,
        preview_label=fitted.preview_label,
        workers=len(walk.placement.workers),
        seconds=dict(walk.clock.seconds),
        spans=walk.spans,
        begin=walk.clock.begin,
        account=done.ended.now("saving"),
        incidents=incidents(walk),
    )
    return write_documents(record, report=walk.job.output.report)


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
        "account": done.ended.now("saving").to_dict(),
        "peak_memory_nbytes": done.memory.sample_peak(),
        "peak_memory_measure": done.memory.measure,
        "peak_memory_of": counted(walk.placement.local),
        "versions": manifest.versions,
        "notes": [plain(note) for note in walk.notes],
        "incidents": [message for _, message in incidents(walk)],
    }


def incidents(walk: Walk) -> list[tuple[float, str]]:
    """Returns what interrupted the run: (seconds since it began, line)."""
    lines = ((event.time - walk.clock.begin, incident(event)) for event in walk.incidents)
    return [(seconds, line) for seconds, line in lines if line is not None]
