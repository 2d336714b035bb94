"""Reads from XGBoost's booster what the meter needs to know."""

import itertools
import json
from typing import TYPE_CHECKING, Any

import xgboost
from xgboost import collective

from pipeline.config.parameters import PARAMETERS
from pipeline.config.xgboost import BY_QUANTILE
from pipeline.efficiency import sockets
from pipeline.efficiency.round_meter import Meter, Setting
from pipeline.efficiency.traffic import GrownTree, Growth, grown
from pipeline.training.xgboost.matrix import Side

if TYPE_CHECKING:
    from pipeline.training.xgboost.spec import RoundsSpec

DEPTH: int = PARAMETERS["max_depth"].default


def start_meter(booster: xgboost.Booster, train: Side, spec: "RoundsSpec", before: frozenset[str]) -> Meter:
    """Starts a meter for these rounds; all ranks call it together.  `before`: sockets that were open before XGBoost's."""
    world, rank = collective.get_world_size(), collective.get_rank()
    trees = _trees_per_round(booster)
    setting = Setting(
        growth=_growth_of(spec.params, total_bins(train.matrix), "cpu" if spec.device == "cpu" else "cuda"),
        trees_per_round=trees,
        adaptive=trees if spec.params.get("objective") in BY_QUANTILE else 0,
        rows=train.rows,
        threads=spec.threads,
        full=spec.full_meter,
    )
    if world == 1:
        return Meter(setting, rank, world, None, sockets.Traffic())
    return Meter(setting, rank, world, _sum, sockets.find(before, _sum, world, rank))


def _sum(values: Any) -> Any:
    return collective.allreduce(values, collective.Op.SUM)


def _growth_of(params: Any, bins: int, device: Any) -> Growth:
    """Returns how trees grow under XGBoost's parameters."""
    policy = params.get("grow_policy", "depthwise")
    return Growth(bins, int(params.get("max_depth", DEPTH)), int(params.get("max_leaves", 0)), policy, device)


def total_bins(matrix: xgboost.DMatrix) -> int:
    """Returns the number of bins of all features together, as histograms have them.

    The cuts of a numeric feature begin with minus infinity, which is no bin; those of a categorical one are its codes.
    """
    starts, _ = matrix.get_quantile_cut()
    types = matrix.feature_types or ["q"] * matrix.num_col()
    return int(starts[-1]) - sum(kind != "c" for kind in types)


def _trees_per_round(booster: xgboost.Booster) -> int:
    """Returns 1, or more for several classes or quantiles (one tree each)."""
    model = json.loads(booster.save_config())["learner"]
    classes = int(model["learner_model_param"]["num_class"])
    targets = int(model["learner_model_param"]["num_target"])
    parallel = int(model["gradient_booster"].get("gbtree_model_param", {}).get("num_parallel_tree", 1))
    return max(1, classes, targets) * max(1, parallel)


def grown_trees(booster: xgboost.Booster) -> tuple[tuple[GrownTree, ...], ...]:
    """Returns the shapes of all trees, round by round."""
    model = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]
    shapes = [grown(tree["parents"], tree["left_children"]) for tree in model["trees"]]
    starts = model["iteration_indptr"]
    return tuple(tuple(shapes[start:stop]) for start, stop in itertools.pairwise(starts))
