"""From a finished training to its model folder, and to what there is to say about it."""

import datetime
from pathlib import Path
from typing import Any

from pipeline.cluster.memory import PeakMemory
from pipeline.model.artifact import Model, ModelParts, save
from pipeline.model.assemble import Trained, make_manifest
from pipeline.preprocess.passes import Prepared
from pipeline.training.boost import Evaluation
from pipeline.training.rounds import RoundsResult
from pipeline.walk import Walk


def default_folder(run: str) -> str:
    """A dated folder under models/, e.g. models/2026-11-21-031502-1f0c."""
    return f"models/{datetime.datetime.now():%Y-%m-%d-%H%M%S}-{run[:4]}"


def finish(
    walk: Walk, prepared: Prepared, result: RoundsResult, evaluation: Evaluation, folder: Path, memory: PeakMemory
) -> tuple[Model, dict[str, Any]]:
    """Writes the model folder; gives the model and the summary that `pipeline train --json` prints."""
    statistics = prepared.fitted.statistics
    rows = {"train": statistics.rows, "validation": statistics.validation_rows, "dropped": statistics.dropped}
    trained = Trained(
        target=prepared.target,
        recipe=prepared.fitted.recipe,
        rounds=result.rounds,
        best_round=result.best_round,
        rows=rows,
        created=datetime.datetime.now(datetime.UTC),
        notes=tuple(walk.notes),
    )
    manifest = make_manifest(prepared.inputs, walk.job, trained)
    metrics = {**evaluation.metrics, "history": result.history, "round_seconds": result.round_seconds}
    with walk.clock.stage("save"):
        model = save(
            folder,
            ModelParts(result.model, prepared.fitted.recipe, manifest, metrics, card=""),
            overwrite=walk.job.output.overwrite,
        )
    workers = walk.placement.workers
    summary = {
        "model": str(model.path),
        "rows": manifest.rows,
        "features": len(manifest.features),
        "workers": len(workers),
        "threads": max(worker.threads for worker in workers),
        "device": walk.placement.device,
        "oversubscribed": walk.placement.oversubscribed,
        "objective": prepared.target.objective,
        "rounds": result.rounds,
        "best_round": result.best_round,
        "metrics": evaluation.metrics,
        "seconds": walk.clock.close(),
        "peak_memory_nbytes": memory.stop(),
        "peak_memory_measure": memory.measure,
        "versions": manifest.versions,
        "sha256": model.sha256,
        "report": None,
        "notes": list(walk.notes),
    }
    return model, summary
