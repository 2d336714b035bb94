"""Lists the job fields that are newer than the first checkpoints, and what their absence in a checkpoint means.

A checkpoint holds every field of the job that decides the model, with its value.  One written by an earlier version
lacks the fields that came later; each is read as the value that reproduces that version's behaviour.  This is not
always today's default: where a default changes, the entry keeps the old behaviour, and an old run is never resumed with
the new.

The trainer's parameters are among these fields, as resolved: with its defaults, and under one name each.

A new field under `data`, `preprocess` or `training` needs an entry here, unless `identity.FREE` names it; a test
fails until it has one.
"""

import fnmatch
from collections.abc import Mapping
from typing import Any

from pipeline.config.parameters import ALIASES

PARAMS = "training.params"  # of the trainer: a checkpoint holds all that have a default, under one name each
# Dotted path of a field -> its value in checkpoints that lack it; * matches a name, e.g. of a column.
FIELDS_SINCE: dict[str, Any] = {
    "data.csv.decimal": ".",
    "data.csv.encoding": "utf-8",
    # Checkpoints of format 1 hold the parameters that the job named; the others were left to XGBoost 3.4.
    "training.params.alpha": 0,
    "training.params.booster": "gbtree",
    "training.params.colsample_bylevel": 1,
    "training.params.colsample_bynode": 1,
    "training.params.colsample_bytree": 1,
    "training.params.debug_synchronize": False,
    "training.params.eta": 0.3,
    "training.params.fail_on_invalid_gpu_id": False,
    "training.params.gamma": 0,
    "training.params.grow_policy": "depthwise",
    "training.params.huber_slope": 1,
    "training.params.lambda": 1,
    "training.params.lambdarank_bias_norm": 1,
    "training.params.lambdarank_normalization": True,
    "training.params.lambdarank_pair_method": "topk",
    "training.params.lambdarank_score_normalization": True,
    "training.params.lambdarank_unbiased": False,
    "training.params.max_cat_threshold": 64,
    "training.params.max_cat_to_onehot": 4,
    "training.params.max_depth": 6,
    "training.params.max_leaves": 0,
    "training.params.min_child_weight": 1,
    "training.params.multi_strategy": "one_output_per_tree",
    "training.params.ndcg_exp_gain": True,
    "training.params.normalize_type": "tree",
    "training.params.num_parallel_tree": 1,
    "training.params.one_drop": False,
    "training.params.rate_drop": 0,
    "training.params.sample_type": "uniform",
    "training.params.sampling_method": "uniform",
    "training.params.scale_pos_weight": 1,
    "training.params.skip_drop": 0,
    "training.params.sparse_threshold": 0.2,
    "training.params.tree_method": "hist",
    "training.params.tweedie_variance_power": 1.5,
}


def field_value(job: Mapping[str, Any], path: str, fields: Mapping[str, Any] | None = None) -> Any:
    """Returns a job's field by its dotted path; if the job lacks it, what its absence means, or None.

    >>> field_value({"data.target": "y"}, "data.csv.encoding", {"data.csv.encoding": "utf-8"})
    'utf-8'
    """
    if path in job:
        return job[path]
    known = FIELDS_SINCE if fields is None else fields
    return next((value for pattern, value in known.items() if fnmatch.fnmatchcase(path, pattern)), None)


def under_one_name(job: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a job's fields with each parameter under the first of its names.

    >>> under_one_name({"training.params.learning_rate": 0.1, "training.seed": 0})
    {'training.params.eta': 0.1, 'training.seed': 0}
    """
    names = {f"{PARAMS}.{other}": f"{PARAMS}.{one}" for one, other in ALIASES}
    return {names.get(path, path): value for path, value in job.items()}
