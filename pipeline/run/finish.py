"""Saves a finished training: the model folder, then the report in it, and the run's summary."""

import datetime
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cluster.memory import PeakMemory, counted
from pipeline.data.skipped import SkippedFragment
from pipeline.events.findings import plain, text_of
from pipeline.events.types import incident
from pipeline.model import importance
from pipeline.model.artifact import REPORT, Model, ModelParts, add_report, save
from pipeline.model.assemble import ManifestInput, make_manifest
from pipeline.model.inference import make_booster
from pipeline.model.manifest import Manifest
from pipeline.preprocess.prepare import PreparedData
from pipeline.preprocess.statistics.collect import Statistics
from pipeline.reports.card import card
from pipeline.reports.training_report import ReportInput, draw_report
from pipeline.runtime.context import RunContext
from pipeline.runtime.recorder import ClosedAccount
from pipeline.training.supervisor import Outcome


@dataclass(frozen=True)
class RunResult:
    """What a run has computed before it is written."""

    prepared: PreparedData
    outcome: Outcome
    folder: Path
    memory: PeakMemory
    closed_account: ClosedAccount  # the worker-seconds by use
    efficiency: dict[str, Any]  # of the rounds, from the meters

    @functools.cached_property
    def booster(self) -> Any:
        """The xgboost.Booster, parsed once: card and report read it."""
        return make_booster(self.outcome.trained.result.model, 0)


def default_folder(run: str) -> str:
    """Returns a dated folder under models/, e.g. models/2026-11-21-031502-1f0c."""
    return f"models/{datetime.datetime.now():%Y-%m-%d-%H%M%S}-{run[:4]}"


def save_model(context: RunContext, done: RunResult) -> tuple[Model, dict[str, Any]]:
    """Writes the model folder, without a report; returns the model and the summary that `pipeline train --json` prints.

    The account in metrics.json ends before the folder is written, the one in the summary after that.
    """
    metrics = {
        **done.outcome.evaluation.metrics,
        "history": done.outcome.trained.result.history,
        "round_seconds": done.outcome.trained.result.round_seconds,
        "seconds": context.clock.close(),
        "account": done.closed_account.now("saving").to_dict(),
        "efficiency": done.efficiency,
        "notes": [plain(note) for note in context.notes],
        "incidents": [{"seconds": seconds, "message": message} for seconds, message in incidents(context)],
        "peak_memory_nbytes": done.memory.sample_peak(),
        "peak_memory_of": counted(context.placement.local),
    }
    manifest = _manifest(context, done)
    with context.clock.stage("save"):
        used = [name for name, gain in importance.gain(done.booster).items() if gain > 0]
        parts = ModelParts(
            booster=done.outcome.trained.result.model,
            recipe=done.prepared.fitted.recipe,
            manifest=manifest,
            metrics=metrics,
            card=card(manifest, done.outcome.evaluation.metrics, used),
            cuts=done.prepared.fitted.cuts,
            plan=None if context.resource_plan is None else context.resource_plan.to_dict(),
        )
        model = save(done.folder, parts, overwrite=context.job.output.overwrite)
    return model, _summary(context, done, model)


def save_report(
    context: RunContext, done: RunResult, model: Model, audit: Mapping[str, Any] | None
) -> tuple[Model, dict[str, Any]]:
    """Draws the report and adds it to the saved model; returns model and summary with it.

    `audit`: measured beside planned, up to now; None: the run was not planned.
    It shows the stages that are complete when it is drawn: its own seconds appear in the summary only.
    """
    with context.clock.stage("report"):
        report = draw_report(_report_input(context, done, model.manifest, audit))
        model = add_report(model, report.html, report.pictures)
    return model, _summary(context, done, model)


def _manifest(context: RunContext, done: RunResult) -> Manifest:
    statistics = done.prepared.fitted.statistics
    trained = ManifestInput(
        target=done.prepared.target,
        recipe=done.prepared.fitted.recipe,
        rounds=done.outcome.trained.result.rounds,
        best_round=done.outcome.trained.result.best_round,
        rows=row_counts(statistics, done.prepared.inputs.skipped),
        created=datetime.datetime.now(datetime.UTC),
        trainer=done.outcome.trainer,
        notes=tuple(map(text_of, context.notes)),
    )
    training = context.job.training
    params = dict(done.prepared.plan.survey.params)
    training = training.model_copy(update={"params": params, "rounds": done.outcome.rounds})
    return make_manifest(done.prepared.inputs, context.job.model_copy(update={"training": training}), trained)


def row_counts(statistics: Statistics, skipped: Sequence[SkippedFragment]) -> dict[str, Any]:
    """Counts the rows that trained and validated, and the others by the reason why they did not."""
    dropped = dict(statistics.dropped)
    if known := sum(item.known_rows for item in skipped):
        dropped["in bad fragments"] = known
    rows = {"train": statistics.rows, "validation": statistics.validation_rows, "dropped": dropped}
    return {**rows, "bad_fragments": len(skipped)} if skipped else rows


def _report_input(
    context: RunContext, done: RunResult, manifest: Manifest, audit: Mapping[str, Any] | None
) -> ReportInput:
    fitted = done.prepared.fitted
    return ReportInput(
        name=done.folder.name,
        manifest=manifest,
        recipe=fitted.recipe,
        booster=done.booster,
        metrics=done.outcome.evaluation.metrics,
        curves=done.outcome.evaluation.curves,
        history=done.outcome.trained.result.history,
        statistics=fitted.statistics,
        preview=fitted.preview,
        preview_label=fitted.preview_label,
        workers=len(context.placement.workers),
        seconds=dict(context.clock.seconds),
        spans=context.spans,
        begin=context.clock.begin,
        account=done.closed_account.now("saving"),
        incidents=incidents(context),
        audit=audit,
    )


def _summary(context: RunContext, done: RunResult, model: Model) -> dict[str, Any]:
    workers, manifest = context.placement.workers, model.manifest
    return {
        "model": str(model.path),
        "report": str(model.path / REPORT) if REPORT in model.manifest.files else None,
        "sha256": model.sha256,
        "objective": manifest.target.objective,
        "rows": manifest.rows,
        "features": len(manifest.features),
        "workers": len(workers),
        "threads": max(worker.threads for worker in workers),
        "device": context.placement.device,
        "oversubscribed": context.placement.oversubscribed,
        "rounds": manifest.rounds,
        "best_round": manifest.best_round,
        "metrics": done.outcome.evaluation.metrics,
        "seconds": context.clock.close(),
        "account": done.closed_account.now("saving").to_dict(),
        "peak_memory_nbytes": done.memory.sample_peak(),
        "peak_memory_measure": done.memory.measure,
        "peak_memory_of": counted(context.placement.local),
        "versions": manifest.versions,
        "notes": [plain(note) for note in context.notes],
        "incidents": [message for _, message in incidents(context)],
    }


def incidents(context: RunContext) -> list[tuple[float, str]]:
    """Returns what interrupted the run: (seconds since it began, line)."""
    lines = ((event.time - context.clock.begin, incident(event)) for event in context.incidents)
    return [(seconds, line) for seconds, line in lines if line is not None]
