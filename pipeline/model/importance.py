"""Computes which features a model uses, and what it loses without each."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.data.schema.target import Target
from pipeline.metrics.exact import evaluate

MOST_SHUFFLED = 40  # features, those of most gain: each costs a prediction of the sample


def gain(booster: Any) -> dict[str, float]:
    """The summed gain of each feature's splits, the largest first; 0 for features without a split."""
    found = booster.get_score(importance_type="total_gain")
    names = booster.feature_names or list(found)
    return dict(sorted(((name, float(found.get(name, 0.0))) for name in names), key=lambda pair: -pair[1]))


def permutation(
    booster: Any, target: Target, block: np.ndarray, label: np.ndarray, *, seed: int = 0
) -> tuple[dict[str, float], str]:
    """(the cost of shuffling each feature, a description of that cost), over a sample.

    block (rows, features) float32, label (rows,).  The cost is the loss added (log loss, RMSE, pinball); for ranking,
    whose loss needs whole queries, the mean change of the score.  Same seed, same rows: same numbers.
    """
    order = np.random.default_rng(seed).permutation(len(block))
    before = booster.inplace_predict(block, validate_features=False)
    loss, words = _loss_of(booster, target, before, label)
    shuffled = block.copy()
    costs: dict[str, float] = {}
    strongest = [name for name, value in gain(booster).items() if value > 0][:MOST_SHUFFLED]
    places: Mapping[str, int] = {name: place for place, name in enumerate(booster.feature_names)}
    for name in strongest:
        place = places[name]
        shuffled[:, place] = block[order, place]
        costs[name] = loss(booster.inplace_predict(shuffled, validate_features=False))
        shuffled[:, place] = block[:, place]
    return costs, f"{words}, {len(block):,} training rows"


def _loss_of(booster: Any, target: Target, before: np.ndarray, label: np.ndarray) -> tuple[Any, str]:
    """(prediction -> cost against `before`, the description of the cost)."""
    if target.kind == "ranking":
        return lambda after: float(np.abs(after - before).mean(dtype=np.float64)), "change of the score by shuffling"
    quantiles = _quantiles(booster) if target.objective == "reg:quantileerror" else ()
    numbers = evaluate(target.kind, target.objective, before, label, quantiles=quantiles)
    name = next((name for name in ("logloss", "pinball", "rmse", "accuracy") if name in numbers), None)
    if name is None:
        return lambda after: 0.0, "nothing to measure"
    sign = -1.0 if name == "accuracy" else 1.0

    def cost(after: np.ndarray) -> float:
        value = evaluate(target.kind, target.objective, after, label, quantiles=quantiles)[name]
        assert isinstance(value, float)
        return sign * (value - _number(numbers[name]))

    words = {
        "logloss": "log loss added",
        "pinball": "pinball loss added",
        "rmse": "RMSE added",
        "accuracy": "accuracy lost",
    }
    return cost, f"{words[name]} by shuffling"


def _quantiles(booster: Any) -> tuple[float, ...]:
    """The quantiles an objective was trained for, from the booster's own configuration."""
    import json

    told = json.loads(booster.save_config())["learner"]["objective"]["quantile_loss_param"]["quantile_alpha"]
    return tuple(float(part) for part in str(told).strip("[]").split(","))


def _number(value: object) -> float:
    assert isinstance(value, float)
    return value
