"""One model for any layout: 1, 2 and 3 workers, unequal shares and rows in another order give the same trees and
predictions.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
import pytest
import xgboost

LAYOUTS = ((2, 10), (3, 4, 5))

CASES: dict[str, dict[str, Any]] = {
    "binary": {},
    "binary sorted by label": {"sort": True},
    "nothing missing": {"missing": False},
    "weights": {"weighted": True},
    "multi-class": {"objective": "multi:softprob"},
    "multi-class, classes only": {"objective": "multi:softmax"},
    "trees of several classes": {"objective": "multi:softprob", "params": {"multi_strategy": "multi_output_tree"}},
    "raw scores": {"objective": "binary:logitraw"},
    "squared error": {"objective": "reg:squarederror"},
    "absolute error": {"objective": "reg:absoluteerror"},
    "absolute error sorted by label": {"objective": "reg:absoluteerror", "sort": True},
    "pseudo-Huber": {"objective": "reg:pseudohubererror"},
    "quantile error": {"objective": "reg:quantileerror"},
    "quantile error sorted by label": {"objective": "reg:quantileerror", "sort": True},
    "one quantile": {"objective": "reg:quantileerror", "shape": {"quantiles": [0.4]}},
    "quantile error weighted": {"objective": "reg:quantileerror", "weighted": True},
    "squared log error": {"objective": "reg:squaredlogerror"},
    "logistic regression": {"objective": "reg:logistic"},
    "Poisson": {"objective": "count:poisson"},
    "gamma": {"objective": "reg:gamma"},
    "Tweedie": {"objective": "reg:tweedie"},
    "hinge": {"objective": "binary:hinge"},
    "rank ndcg": {"objective": "rank:ndcg"},
    "rank map": {"objective": "rank:map"},
    "rank pairwise": {"objective": "rank:pairwise"},
    "columns by tree": {"params": {"colsample_bytree": 0.5}},
    "columns by level and node": {"params": {"colsample_bylevel": 0.7, "colsample_bynode": 0.7}},
    "row sample": {"options": {"row_sample": 0.5}},
    "row sample of squared error": {"objective": "reg:squarederror", "options": {"row_sample": 0.3}},
    "row sample weighted": {"weighted": True, "options": {"row_sample": 0.5}},
    "row sample multi-class": {"objective": "multi:softprob", "options": {"row_sample": 0.5}},
    "row sample absolute error": {"objective": "reg:absoluteerror", "options": {"row_sample": 0.5}},
    "row sample of queries": {"objective": "rank:ndcg", "options": {"row_sample": 0.5}},
    "weighted queries": {"objective": "rank:ndcg", "weighted": True},
    "row sample of weighted queries": {"objective": "rank:ndcg", "weighted": True, "options": {"row_sample": 0.5}},
    "lossguide": {"params": {"grow_policy": "lossguide", "max_leaves": 20, "max_depth": 0}},
    "early stopping": {"options": {"early_stopping": 3}, "rounds": 60},
    "dart": {"params": {"booster": "dart", "rate_drop": 0.2}},
    "monotone": {"shape": {"monotone": {"f0": 1}}},
    "interactions": {"shape": {"interactions": [["f0", "f1"], ["f2", "f5"]]}},
}
# The others are slow together.
QUICK = {"binary", "multi-class", "quantile error", "rank ndcg", "weights", "row sample", "lossguide", "early stopping"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES]
)
def test_same_model(name: str, train: Any, make_case: Any) -> None:
    """The same bytes, also from rows in another order, and where a training is interrupted on two workers and resumed on
    others, with its rows in another order.
    """
    case = make_case(**{"rows": 3000, "rounds": 15, **CASES[name]})
    ordered = dataclasses.replace(case, ordered=True)
    first = train(case)
    for shares, layout in zip(LAYOUTS, (case, ordered), strict=True):
        other = train(layout, shares)
        same(name, first, other)
        compare(first, other)
    short = train(case, (6, 6), rounds=6)
    same(name, first, train(ordered, (7, 5), start=short.result.state))


def same(name: str, first: Any, other: Any) -> None:
    """To the byte.

    XGBoost gives rows of weight 0 a hessian of 1e-16 for multi-class objectives, so that there a node's sum (its cover,
    no part of a prediction) depends on the order of addition in its last bit.
    """
    one, two = first.result.model, other.result.model
    if name == "row sample multi-class":
        one, two = without_cover(one), without_cover(two)
    assert one == two


def without_cover(model: bytes) -> Any:
    content = json.loads(xgboost.Booster(model_file=bytearray(model)).save_raw("json"))
    for tree in content["learner"]["gradient_booster"]["model"]["trees"]:
        del tree["sum_hessian"]
    return content


def compare(first: Any, other: Any) -> None:
    """Same structure, features and thresholds; predictions within 1e-6 of their spread; same metrics.

    On small data the bytes are the same too; over 300 rounds of flights with both samplings they were not.
    """
    assert trees(first.result.model) == trees(other.result.model)
    for side in ("train", "validation"):
        a, b = getattr(first, side), getattr(other, side)
        np.testing.assert_array_equal(a.row_ids, b.row_ids)
        spread = a.prediction.max() - a.prediction.min()
        assert np.abs(a.prediction - b.prediction).max() <= 1e-6 * spread
    for key, series in first.result.history.items():
        np.testing.assert_allclose(series, other.result.history[key], rtol=1e-6)
    assert first.result.best_round == other.result.best_round


def trees(model: bytes) -> list[Any]:
    """Structure, features and thresholds of every tree, without the leaves' values."""
    booster = xgboost.Booster()
    booster.load_model(bytearray(model))
    content = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    content = content.get("gbtree", content)["model"]
    found = []
    for tree in content["trees"]:
        inner = [left != -1 for left in tree["left_children"]]
        thresholds = [value for value, split in zip(tree["split_conditions"], inner, strict=True) if split]
        names = ("left_children", "right_children", "split_indices", "default_left", "split_type", "categories")
        found.append([*(tree[name] for name in names), thresholds])
    return found


NUMBERS = ["month", "day", "hour", "distance", "minute", "dep_time", "flight"]
CATEGORIES = ["carrier", "origin", "dest"]


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [False, True])
def test_three_hundred_rounds_on_flights(train: Any, make_case: Any, data: Path, sampling: bool) -> None:
    """Deep trees on 65,000 real rows with categories and missing values, also with both samplings."""
    params = {"max_depth": 8, "colsample_bynode": 0.7, "colsample_bytree": 0.8} if sampling else {"max_depth": 8}
    options = {"row_sample": 0.6} if sampling else {}
    case = dataclasses.replace(make_case(rounds=300, params=params, options=options), **read_flights(data, every=5))
    first = train(case)
    for shares in ((6, 6), (2, 3, 7)):
        compare(first, train(case, shares))


def read_flights(data: Path, every: int) -> dict[str, Any]:
    """Returns features, labels and levels of every `every`-th flight."""
    table = pyarrow.dataset.dataset(data / "nycflights13", format="parquet", partitioning="hive").to_table(
        columns=[*NUMBERS, *CATEGORIES, "arr_delay"]
    )
    delay = table["arr_delay"].to_numpy().astype(np.float64)
    known = np.flatnonzero(~np.isnan(delay))[::every]
    table, delay = table.take(known), delay[known]
    columns = [np.array(table[name].to_numpy(), dtype=np.float32) for name in NUMBERS]
    columns[3][::17] = np.nan
    levels: list[int | None] = [None] * len(NUMBERS)
    for name in CATEGORIES:
        coded = table[name].cast("string").combine_chunks().dictionary_encode()
        columns.append(coded.indices.to_numpy().astype(np.float32))
        levels.append(len(coded.dictionary))
    return {"features": np.column_stack(columns), "label": (delay > 15).astype(np.float32), "levels": tuple(levels)}
