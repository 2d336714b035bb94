"""Finds problems of a training: a metric that the validation rows do not define, a model that has learned nothing."""

import math
from collections.abc import Sequence

from pipeline.data.schema.target import Target
from pipeline.events.findings import Finding
from pipeline.preprocess.findings import few_steps, sum_of_squares_overflows
from pipeline.preprocess.statistics.collect import LabelStatistics, Statistics
from pipeline.training.trainer import RoundsResult
from pipeline.training.xgboost.spec import RoundsSpec

SMALL_DEVIATION = 1e-4  # of a target: the gain of a split falls with its square, and XGBoost ignores gains below 1e-6


def undefined_metric(metrics: Sequence[str], target: Target, validation: LabelStatistics) -> Finding | None:
    """Returns a finding if the validation rows do not define the metric that decides early stopping, the last one."""
    if not metrics or not validation.moments.count:
        return None
    name = metrics[-1]
    if target.kind == "binary" and name in ("auc", "aucpr"):
        if sum(weight > 0 for weight in validation.class_weights) > 1:
            return None
        why = f"the validation rows are all of one class of the target {target.column}, and {name} needs two"
    elif target.kind == "ranking" and validation.low == validation.high:
        why = f"the validation rows all have the same grade {target.column}, and {name} is the same for every model"
    else:
        return None
    return Finding(
        "undefined_metric",
        f"early stopping is off: {why}; see data.validation and training.metrics",
        column=target.column,
        count=validation.moments.count,
        setting="data.validation",
    )


def training_findings(
    result: RoundsResult, spec: RoundsSpec, statistics: Statistics, target: Target
) -> tuple[Finding, ...]:
    """Returns findings about the rounds: nothing was learned, or the deciding metric was never a number."""
    found = []
    if not result.learned:
        found.append(
            Finding(
                "no_split",
                f"no tree has a split: the model predicts the same for every row. {_why(statistics, target)}",
                column=target.column,
                count=result.best_round,
                setting="training.params",
            )
        )
    elif target.kind == "regression" and statistics.label.moments.deviation < SMALL_DEVIATION:
        found.append(
            Finding(
                "small_target",
                f"the target {target.column} varies little, by {statistics.label.moments.deviation:.2g} (standard deviation): "
                "splits may gain too little to be made; multiply it under data.derive",
                column=target.column,
                setting="data.derive",
            )
        )
    deciding = f"validation.{spec.metrics[-1]}" if spec.metrics else ""
    values = result.history.get(deciding, ())
    if spec.early_stopping and len(values) and all(map(math.isnan, values)):
        found.append(
            Finding(
                "undefined_metric",
                f"{deciding} was no number in any of {len(values)} rounds: the last round is kept; choose another metric under "
                "training.metrics",
                count=len(values),
                setting="training.metrics",
            )
        )
    return tuple(found)


def _why(statistics: Statistics, target: Target) -> str:
    deviation = statistics.label.moments.deviation
    if target.kind == "regression" and sum_of_squares_overflows(statistics.label, target.objective):
        return (
            f"The target {target.column} has a standard deviation of {deviation:.2g}: the gains of splits go beyond float32; "
            "divide it under data.derive"
        )
    if target.kind == "regression" and few_steps(statistics.label) is not None:
        return (
            f"Float32 hardly distinguishes values of the target {target.column}: subtract their mean under data.derive"
        )
    if target.kind == "regression" and deviation < 1:
        return (
            f"The target {target.column} has a standard deviation of {deviation:.2g}: where splits gain too little, multiply it "
            "under data.derive, or lower min_child_weight, gamma and lambda under training.params"
        )
    return "Lower min_child_weight, gamma and lambda under training.params, or the features carry no information about the target"
