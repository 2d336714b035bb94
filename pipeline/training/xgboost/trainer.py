"""Runs the rounds and the exact evaluation from the client: from matrices to an evaluated booster."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config import xgboost as objective
from pipeline.config.job import Training
from pipeline.config.metric_registry import round_metrics
from pipeline.data.schema.target import Target
from pipeline.events.findings import Finding
from pipeline.events.types import Evaluated
from pipeline.metrics import curves
from pipeline.metrics import exact as metrics
from pipeline.preprocess.constraints import without_absent
from pipeline.preprocess.prepare import PreparedData
from pipeline.runtime.context import RunContext
from pipeline.runtime.task_errors import task
from pipeline.runtime.timing import span
from pipeline.training.checkpoint import State
from pipeline.training.workset import WorkerMatrices
from pipeline.training.xgboost.dispatch import TrainingResult, run_training
from pipeline.training.xgboost.findings import training_findings, undefined_metric
from pipeline.training.xgboost.intercept import LabelSummary, base_score
from pipeline.training.xgboost.matrix import Partition
from pipeline.training.xgboost.rounds import Scores
from pipeline.training.xgboost.spec import RoundsSpec
from pipeline.training.xgboost.training_events import TrainingCallbacks


@dataclass(frozen=True)
class Evaluation:
    """Metrics of the final model over all rows of each use."""

    metrics: dict[str, metrics.Metrics]  # "train", "validation" -> metric -> value
    curves: dict[str, curves.Curves]  # "train", "validation" -> curves
    seconds: float


def boost(
    context: RunContext, prepared: PreparedData, partitions: WorkerMatrices, callbacks: TrainingCallbacks
) -> tuple[TrainingResult, tuple[Finding, ...]]:
    """Runs the rounds on all workers under one communicator; returns the result, and findings for the caller to emit."""
    spec = _continued(spec_for(context, prepared, partitions), context.job.training, callbacks.start)
    undefined = undefined_metric(spec.metrics, prepared.target, prepared.fitted.statistics.validation_label)
    if spec.early_stopping and undefined is not None:
        context.emit_note(undefined)
        spec = dataclasses.replace(spec, early_stopping=0)
    start = time.time()
    trained = run_training(context.client, partitions.futures, partitions.workers, spec, callbacks, context.membership)
    context.span_everywhere("rounds", partitions.workers, start, time.time())
    return trained, training_findings(trained.result, spec, prepared.fitted.statistics, prepared.target)


def _continued(spec: RoundsSpec, training: Training, start: State | None) -> RoundsSpec:
    """Sets the metrics of the interrupted run if the job names none: another version may have other defaults."""
    if training.metrics or start is None or not start.history:
        return spec
    measured = [name.partition(".") for name in start.history]
    sides = {side for side, _, _ in measured}
    side = "validation" if "validation" in sides else "train"
    return dataclasses.replace(spec, metrics=tuple(metric for of, _, metric in measured if of == side))


def spec_for(context: RunContext, prepared: PreparedData, partitions: WorkerMatrices) -> RoundsSpec:
    """Builds what every worker must know to train on these partitions."""
    return _rounds_spec(context, prepared, _intercept(context, prepared, partitions))


def _intercept(context: RunContext, prepared: PreparedData, partitions: WorkerMatrices) -> float | tuple[float, ...]:
    """Computes the intercept from all training rows: from their mean, or on one worker from every label."""
    name, mean = prepared.target.objective, prepared.fitted.mean_label
    quantiles = _quantiles_of(context.job.training, prepared.target)
    if name not in objective.BY_QUANTILE:
        return base_score(name, LabelSummary(mean), quantiles)
    parts = [
        context.client.submit(_labels_of, partition, workers=[worker], pure=False)
        for partition, worker in zip(partitions.futures, partitions.workers, strict=True)
    ]
    task = context.client.submit(_intercept_of, parts, name, mean, quantiles, pure=False)
    found: float | tuple[float, ...]
    (found,) = context.membership.results([task], partitions.workers)
    return found


@task
def _labels_of(partition: Partition) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns labels and weights of the training rows."""
    return partition.train.matrix.get_label(), partition.train.weight


@task
def _intercept_of(
    parts: Sequence[tuple[np.ndarray, np.ndarray | None]], name: str, mean: float, quantiles: tuple[float, ...]
) -> float | tuple[float, ...]:
    values = np.concatenate([label for label, _ in parts])
    known = [weight for _, weight in parts if weight is not None]
    return base_score(name, LabelSummary(mean, values, np.concatenate(known) if known else None), quantiles)


def _rounds_spec(context: RunContext, prepared: PreparedData, intercept: float | tuple[float, ...]) -> RoundsSpec:
    """Builds the spec of the rounds, with the intercept given."""
    training, target, recipe = context.job.training, prepared.target, prepared.fitted.recipe
    params = prepared.plan.survey.params
    quantiles, constraints = _quantiles_of(training, target), without_absent(training, recipe)
    shape = objective.ModelShape(
        features=recipe.names,
        classes=len(target.classes),
        monotone=constraints.monotone,
        interactions=constraints.interactions,
        quantiles=quantiles,
    )
    return RoundsSpec(
        run=context.run,
        params=objective.xgboost_params(target.objective, shape, intercept, params, training.seed),
        rounds=training.rounds,
        metrics=round_metrics(target.objective, training.metrics, params),
        early_stopping=training.early_stopping,
        row_sample=training.row_sample,
        seed=training.seed,
        threads=min(worker.threads for worker in context.placement.workers),
        device=context.placement.device,
        timeout_seconds=training.timeout_seconds,
        checkpoint_rounds=training.checkpoint_rounds,
        checkpoint_seconds=training.checkpoint_seconds,
    )


def _quantiles_of(training: Training, target: Target) -> tuple[float, ...]:
    """Returns the quantiles that are predicted; empty for other objectives."""
    return (tuple(training.quantiles) or (0.5,)) if target.objective == "reg:quantileerror" else ()


def evaluate(
    context: RunContext, prepared: PreparedData, trained: TrainingResult, workers: Sequence[str]
) -> Evaluation:
    """Computes exact metrics of all training and validation rows on the cluster; only the numbers are transferred.

    `workers`: those that the rows were trained on.
    """
    start = time.monotonic()
    request = EvaluationRequest(
        prepared.target,
        _quantiles_of(context.job.training, prepared.target),
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
    if len(present) <= 1:
        return present[0] if present else None
    order = np.argsort(np.concatenate([part.row_ids for part in present]), kind="stable")

    def ordered(name: str) -> np.ndarray | None:
        arrays = [getattr(part, name) for part in present]
        return None if arrays[0] is None else np.concatenate(arrays)[order]

    names = ("row_ids", "prediction", "label", "weight", "group")
    return Scores(**{name: ordered(name) for name in names})  # type: ignore[arg-type]  # only weight and group may be None, and only of all parts
