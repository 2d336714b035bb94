"""The trainer that boosts trees with XGBoost: the first of the protocol in `training/trainer.py`."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xgboost

from pipeline.cluster.devices import array_namespace
from pipeline.config import xgboost as objective
from pipeline.config.job import Training
from pipeline.config.metric_registry import round_metrics
from pipeline.config.parameters import resolved_params
from pipeline.preprocess.bins import Cuts
from pipeline.preprocess.block import Block
from pipeline.preprocess.constraints import without_absent
from pipeline.preprocess.prepare import PreparedData
from pipeline.runtime.context import RunContext
from pipeline.runtime.task_errors import task
from pipeline.training.state import State
from pipeline.training.trainer import Attempt, TrainingResult, WorkerMatrices
from pipeline.training.xgboost.dispatch import run_training
from pipeline.training.xgboost.findings import training_findings, undefined_metric
from pipeline.training.xgboost.intercept import LabelSummary, base_score
from pipeline.training.xgboost.matrix import Partition, build_partition
from pipeline.training.xgboost.spec import RoundsSpec
from pipeline.training.xgboost.trial import try_params


@dataclass(frozen=True)
class XGBoostTrainer:
    """Boosts trees on quantised matrices, under one communicator; its methods are those of `Trainer`."""

    name: Literal["xgboost"] = "xgboost"

    def versions(self) -> Mapping[str, str]:
        return {"xgboost": xgboost.__version__}

    def resolved(self, training: Training) -> Mapping[str, Any]:
        return resolved_params(training.params)

    def check(self, training: Training, objective: str) -> None:
        try_params(training, objective)

    def build(
        self,
        blocks: Sequence[Block],
        cuts: Cuts,
        names: Sequence[str],
        *,
        threads: int,
        device: Literal["cpu", "cuda"],
        scratch: Path | None,
    ) -> Partition:
        return build_partition(blocks, cuts, names, threads=threads, xp=array_namespace(device), scratch=scratch)

    def spec(self, attempt: Attempt) -> RoundsSpec:
        context, prepared = attempt.context, attempt.prepared
        spec = spec_for(context, prepared, attempt.matrices, attempt.rounds)
        spec = _continued(spec, context.job.training, attempt.callbacks.start)
        undefined = undefined_metric(spec.metrics, prepared.target, prepared.fitted.statistics.validation_label)
        if spec.early_stopping and undefined is not None:
            context.emit_note(undefined)
            spec = dataclasses.replace(spec, early_stopping=0)
        return spec

    def rounds(self, attempt: Attempt, spec: RoundsSpec) -> TrainingResult:
        context, prepared, matrices = attempt.context, attempt.prepared, attempt.matrices
        start = time.time()
        trained = run_training(
            context.client, matrices.futures, matrices.workers, spec, attempt.callbacks, context.membership
        )
        context.span_everywhere("rounds", matrices.workers, start, time.time())
        findings = training_findings(trained.result, spec, prepared.fitted.statistics, prepared.target)
        return dataclasses.replace(trained, findings=findings)


def _continued(spec: RoundsSpec, training: Training, start: State | None) -> RoundsSpec:
    """Sets the metrics of the interrupted run if the job names none: another version may have other defaults."""
    if training.metrics or start is None or not start.history:
        return spec
    measured = [name.partition(".") for name in start.history]
    sides = {side for side, _, _ in measured}
    side = "validation" if "validation" in sides else "train"
    return dataclasses.replace(spec, metrics=tuple(metric for of, _, metric in measured if of == side))


def spec_for(context: RunContext, prepared: PreparedData, partitions: WorkerMatrices, rounds: int) -> RoundsSpec:
    """Builds what every worker must know to train on these partitions, up to round `rounds`."""
    return _rounds_spec(context, prepared, _intercept(context, prepared, partitions), rounds)


def _intercept(context: RunContext, prepared: PreparedData, partitions: WorkerMatrices) -> float | tuple[float, ...]:
    """Computes the intercept from all training rows: from their mean, or on one worker from every label."""
    name, mean = prepared.target.objective, prepared.fitted.mean_label
    quantiles = objective.quantiles_of(name, context.job.training.quantiles)
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


def _rounds_spec(
    context: RunContext, prepared: PreparedData, intercept: float | tuple[float, ...], rounds: int
) -> RoundsSpec:
    """Builds the spec of the rounds, with the intercept given."""
    training, target, recipe = context.job.training, prepared.target, prepared.fitted.recipe
    params = prepared.plan.survey.params
    quantiles = objective.quantiles_of(target.objective, training.quantiles)
    constraints = without_absent(training, recipe)
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
        rounds=rounds,
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
