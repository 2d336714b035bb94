"""What each column is for: features, target, weight, group, ids; and which raw columns that takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Roles:
    """Which column plays which part."""

    features: tuple[str, ...]  # in the order of the schema, raw and derived
    target: str | None = None  # None at prediction
    weight: str | None = None
    group: str | None = None  # the query of a ranking task
    id: tuple[str, ...] = ()  # copied to predictions
    validation: str | None = None  # the column that data.validation names by `column` or `time`
    read: tuple[str, ...] = ()  # raw columns to read for training and evaluation
    predict: tuple[str, ...] = ()  # raw columns to read for prediction: the features' and the ids'
    notes: tuple[str, ...] = ()  # what was left out and why, each to be said once
