"""Trains one round on sixteen made-up rows, so that parameters that XGBoost refuses fail before any data are read."""

import re
from typing import Any

import numpy as np
import xgboost

from pipeline.config.job import Training
from pipeline.config.metric_registry import BY_COUNTS, round_metrics
from pipeline.config.xgboost import KINDS
from pipeline.errors import JobError

ROWS = 16
MOST_TREES = 4  # of a round, in this trial
_PLACE = re.compile(r"^\[[\d:]+\] \S+?:\d+: ")  # time and source file
_LONGEST = 300  # characters of XGBoost's text


def try_params(training: Training, objective: str) -> None:
    """Raises JobError, with XGBoost's reason, for values of training.params, metrics or quantiles that it refuses.

    `objective` may be "auto": another one then replaces the one that the target will decide.
    """
    objective = "reg:squarederror" if objective == "auto" else objective
    params: dict[str, Any] = {
        **training.params, "objective": objective, "tree_method": "hist", "nthread": 1, "verbosity": 0,
        "validate_parameters": True, "disable_default_eval_metric": True,
    }  # fmt: skip
    if objective.startswith("multi:"):
        params["num_class"] = 3
    if objective == "reg:quantileerror":
        params["quantile_alpha"] = list(training.quantiles) or [0.5]
    try:
        matrix = _matrix(objective)
        xgboost.Booster(params, [matrix]).save_config()  # parses all values
        if str(params.get("num_parallel_tree", 1)) not in map(str, range(MOST_TREES + 1)):
            params["num_parallel_tree"] = MOST_TREES
        metrics = () if training.objective == "auto" else round_metrics(objective, training.metrics, training.params)
        params["eval_metric"] = [metric for metric in metrics if metric not in BY_COUNTS]
        booster = xgboost.Booster(params, [matrix])
        booster.update(matrix, 0)
        booster.eval_set([(matrix, "trial")], 0)
    except (xgboost.core.XGBoostError, ValueError, TypeError) as error:
        raise JobError(f"training: XGBoost refuses this: {reason(str(error))}") from None


def reason(text: str) -> str:
    """Returns XGBoost's message without its stack trace and the place in its source."""
    lines = [_PLACE.sub("", line) for line in text.partition("Stack trace")[0].splitlines()]
    return " ".join(line.strip() for line in lines if line.strip())[:_LONGEST]


def _matrix(objective: str) -> xgboost.DMatrix:
    """Builds rows with labels that every objective of the kind accepts."""
    values = np.arange(2 * ROWS, dtype=np.float32).reshape(ROWS, 2) % 5
    kind = KINDS[objective]
    label = np.arange(ROWS) % (3 if kind == "multiclass" else 2) + (objective == "reg:gamma")
    matrix = xgboost.DMatrix(values, label=label, nthread=1)
    if kind == "ranking":
        matrix.set_info(group=[ROWS // 2, ROWS // 2])
    return matrix
