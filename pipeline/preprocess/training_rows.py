"""Checks the training rows as a whole; computes class weights and the mean label."""

from collections.abc import Iterable

import numpy as np

from pipeline.config.job import Training
from pipeline.data.schema.target import Target
from pipeline.errors import DataError
from pipeline.preprocess.statistics.collect import Statistics

MIN_ROWS = 10  # to train on


def check_rows(statistics: Statistics, target: Target) -> None:
    """DataError where there is nothing to learn from."""
    label = statistics.label
    if statistics.rows < MIN_ROWS:
        raise DataError(
            f"{statistics.rows} rows are left to train on, {MIN_ROWS} are needed: see data.where, data.validation and "
            "the missing values of the target"
        )
    if target.classes and sum(rows > 0 for rows in statistics.class_counts) < 2:
        raise DataError(f"the training rows of the target {target.column} are all of one class: see data.validation")
    if label.weight_sum == 0:
        raise DataError("the weights of all training rows are 0: see data.weight")
    if target.classes and sum(weight > 0 for weight in label.class_weights) < 2:
        raise DataError(
            f"the training rows of the target {target.column} that weigh more than 0 are all of one class: see data.weight"
        )
    if not target.classes and label.low == label.high:
        raise DataError(
            f"the target {target.column} has the same value in all {statistics.rows:,} training rows: see data.validation "
            "and data.where"
        )


def mean_label(statistics: Statistics, by_class: tuple[float, ...]) -> float:
    """The weighted mean of the training labels, class weights counted in."""
    of = statistics.label
    if of.class_weights:
        mass = np.asarray(of.class_weights) * (np.asarray(by_class) if by_class else 1.0)
        return float((mass * np.arange(len(mass))).sum() / mass.sum())
    return of.weighted_sum / of.weight_sum


def class_weights(target: Target, counts: Iterable[int], training: Training) -> tuple[float, ...]:
    """The weight of each class: as given by name, or rows / (classes * rows of the class) where balanced.

    DataError for a name that is not among the classes, or a target without classes.
    """
    if training.class_weights is None:
        return ()
    if not target.classes:
        raise DataError(f"training.class_weights is for classes; the target {target.column} makes a {target.kind} task")
    counts = list(counts)
    if training.class_weights == "balanced":  # a class without rows: as with an even share
        return tuple(sum(counts) / (len(counts) * count) if count else 1.0 for count in counts)
    names = [str(name).lower() if isinstance(name, bool) else str(name) for name in target.classes]
    for name in training.class_weights:
        if name not in names:
            raise DataError(f"training.class_weights.{name}: no such class of {target.column}, which has {len(names)}")
    return tuple(training.class_weights.get(name, 1.0) for name in names)
