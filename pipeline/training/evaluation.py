"""Evaluates the final model exactly, over all rows, on the cluster."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config.xgboost import quantiles_of
from pipeline.data.schema.target import Target
from pipeline.events.types import Evaluated
from pipeline.metrics import curves
from pipeline.metrics import exact as metrics
from pipeline.preprocess.prepare import PreparedData
from pipeline.runtime.context import RunContext
from pipeline.runtime.task_errors import task
from pipeline.runtime.timing import span
from pipeline.training.trainer import Scores, TrainingResult


@dataclass(frozen=True)
class Evaluation:
    """Metrics of the final model over all rows of each use."""

    metrics: dict[str, metrics.Metrics]  # "train", "validation" -> metric -> value
    curves: dict[str, curves.Curves]  # "train", "validation" -> curves
    seconds: float


def evaluate(
    context: RunContext, prepared: PreparedData, trained: TrainingResult, workers: Sequence[str]
) -> Evaluation:
    """Computes exact metrics of all training and validation rows on the cluster; only the numbers are transferred.

    `workers`: those that the rows were trained on.
    """
    start = time.monotonic()
    request = EvaluationRequest(
        prepared.target,
        quantiles_of(prepared.target.objective, context.job.training.quantiles),
        prepared.fitted.class_weight,
        weighted=prepared.inputs.roles.weight is not None,
        curves=context.job.output.report,
    )
    future = context.client.submit(_evaluate, list(trained.scores), request, pure=False)
    ((found, drawn),) = context.membership.results([future], workers)
    evaluation = Evaluation(found, drawn, time.monotonic() - start)
    flat = {
        f"{use}.{name}": value
        for use, values in found.items()
        for name, value in values.items()
        if isinstance(value, float)
    }
    context.emit(Evaluated(metrics=flat, seconds=evaluation.seconds))
    return evaluation


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be evaluated."""

    target: Target
    quantiles: tuple[float, ...]
    class_weight: tuple[float, ...]  # by class index, as in the scores' weights; empty: none
    weighted: bool  # whether rows have weights of their own
    curves: bool  # whether a report will draw them


@task
def _evaluate(
    parts: Sequence[tuple[Scores | None, Scores | None]], request: EvaluationRequest
) -> tuple[dict[str, metrics.Metrics], dict[str, curves.Curves]]:
    """Computes metrics and curves, each by use.

    Rows count by their own weights: class weights affect the training, not the measurement.
    """
    kind, objective_name, quantiles = request.target.kind, request.target.objective, request.quantiles
    with span("evaluate"):
        found: dict[str, metrics.Metrics] = {}
        drawn: dict[str, curves.Curves] = {}
        for use, place in (("train", 0), ("validation", 1)):
            scores = in_order([part[place] for part in parts])
            if scores is None:
                continue
            weight = scores.weight if request.weighted else None
            if weight is not None and request.class_weight:
                weight = weight / np.asarray(request.class_weight, np.float32)[scores.label.astype(np.int64)]
            rows = (scores.prediction, scores.label, weight, scores.group)
            found[use] = metrics.evaluate(kind, objective_name, *rows, quantiles=quantiles)
            if request.curves:
                drawn[use] = curves.curves(kind, objective_name, *rows, quantiles=quantiles)
        return found, drawn


def in_order(parts: Sequence[Scores | None]) -> Scores | None:
    """Returns the rows of all workers in the order of their row ids, so that sums do not depend on the layout.

    Workers without rows of this use are left out: they do not know whether there are weights or several outputs.
    """
    present = [part for part in parts if part is not None and len(part.row_ids)]
    if not present:
        return None
    row_ids = np.concatenate([part.row_ids for part in present])
    if len(present) == 1 and (row_ids[1:] > row_ids[:-1]).all():
        return present[0]
    order = np.argsort(row_ids, kind="stable")

    def ordered(name: str) -> np.ndarray | None:
        arrays = [getattr(part, name) for part in present]
        return None if arrays[0] is None else np.concatenate(arrays)[order]

    names = ("row_ids", "prediction", "label", "weight", "group")
    return Scores(**{name: ordered(name) for name in names})  # type: ignore[arg-type]  # only weight and group may be None, and only of all parts
