"""Trains in this process, without a cluster: from a job and rows in memory to the booster that `pipeline.train` saves."""

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xgboost

from benchmarks.local_preparation import Ready, prepare
from pipeline.config.job import Job, Training
from pipeline.config.metric_registry import round_metrics
from pipeline.config.xgboost import ModelShape, xgboost_params
from pipeline.model.manifest import NamedType
from pipeline.model.schema import to_table, type_name
from pipeline.preprocess.apply import matrix
from pipeline.preprocess.prepare import params_of_rounds
from pipeline.training.xgboost.intercept import LabelSummary, base_score
from pipeline.training.xgboost.matrix import Partition, build_partition
from pipeline.training.xgboost.rounds import RoundHooks, train_rounds
from pipeline.training.xgboost.spec import RoundsSpec


@dataclass(frozen=True)
class Trained:
    """A booster, cut after its best round."""

    model: bytes
    rounds: int  # trained
    best_round: int
    cpu_seconds: float  # of the matrices and the rounds


@dataclass(frozen=True)
class Prepared:
    """Rows in memory, prepared as a training prepares them; several trainings may follow."""

    ready: Ready
    threads: int
    cpu_seconds: float  # of the preparation

    @classmethod
    def of(cls, job: Job, rows: Any, threads: int = 1) -> "Prepared":
        """`rows`: what `pipeline.train` takes as a source.  UserError where they cannot be trained on."""
        begin = time.process_time()
        return cls(prepare(job, rows), threads, time.process_time() - begin)

    @property
    def classes(self) -> tuple[Any, ...]:
        return self.ready.target.classes

    @cached_property
    def partition(self) -> Partition:
        fitted = self.ready.fitted
        return build_partition(self.ready.blocks, fitted.cuts, fitted.recipe.names, threads=self.threads)

    def spec(self, training: Training) -> RoundsSpec:
        """What the worker of a run on one worker gets; of objectives whose intercept is a mean."""
        target, fitted = self.ready.target, self.ready.fitted
        shape = ModelShape(fitted.recipe.names, len(target.classes))
        params = params_of_rounds(training.params, fitted)
        intercept = base_score(target.objective, LabelSummary(fitted.mean_label))
        return RoundsSpec(
            run="local",
            params=xgboost_params(target.objective, shape, intercept, params, training.seed),
            rounds=training.rounds,
            metrics=round_metrics(target.objective, training.metrics, params),
            early_stopping=training.early_stopping,
            seed=training.seed,
            threads=self.threads,
            row_sample=training.row_sample,
        )

    def train(self, training: Training) -> Trained:
        """Builds the matrices unless an earlier training did, and boosts."""
        ends: list[float] = []
        begin = time.process_time()
        hooks = RoundHooks(hand_over=lambda state, leaving: ends.append(time.process_time()))
        result = train_rounds(self.partition, self.spec(training), hooks=hooks)
        return Trained(result.model, result.rounds, result.best_round, ends[0] - begin)

    def features(self, rows: Any) -> np.ndarray:
        """(rows, features) float32 of rows to predict."""
        inputs = self.ready.inputs
        columns = [NamedType(name, type_name(inputs.schema.field(name).type)) for name in inputs.roles.features]
        return np.asarray(matrix(self.ready.fitted.recipe, to_table(rows, columns)))

    def predict(self, model: bytes, rows: Any) -> np.ndarray:
        """(rows,) or (rows, classes) as the model folder predicts them."""
        booster = xgboost.Booster({"nthread": self.threads}, model_file=bytearray(model))
        return np.asarray(booster.inplace_predict(self.features(rows), validate_features=False))
