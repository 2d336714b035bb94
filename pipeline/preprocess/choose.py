"""Chooses the features that a column becomes, from its statistics alone."""

import numpy as np

from pipeline.config.job import Column, Preprocess
from pipeline.data.keys import place_of
from pipeline.data.schema.target import Target
from pipeline.errors import DataError
from pipeline.preprocess.categories import choose_category
from pipeline.preprocess.features import Feature, FeatureChoice, Indicator, Number, TimePart
from pipeline.preprocess.statistics.collect import Statistics
from pipeline.preprocess.statistics.column_statistics import AnyColumn, MissingColumn, NumberColumn, TimeColumn
from pipeline.preprocess.transforms import DAY_SECONDS

EXACT_FLOAT32 = 2**24  # float32 holds every integer up to here
FEW_STEPS = 100  # float32 values within a standard deviation: fewer produce a note


def choose(
    name: str, column: AnyColumn, setting: Column, statistics: Statistics, plan: tuple[Preprocess, Target]
) -> FeatureChoice:
    """The features of one column; DataError where it has infinite values."""
    if isinstance(column, MissingColumn) or column.missing == statistics.rows:
        return FeatureChoice(dropped="missing")
    if isinstance(column, NumberColumn):
        return _number(name, column, setting)
    if isinstance(column, TimeColumn):
        return _time(name, column, setting)
    return choose_category(name, column, setting, statistics, plan)


def _number(name: str, column: NumberColumn, setting: Column) -> FeatureChoice:
    if column.infinite and setting.clip is None:
        assert column.first_infinite is not None
        raise DataError(
            f"column {name!r} has {column.infinite:,} infinite values (beyond float32's 3.4e38), the first at "
            f"{place_of(column.first_infinite)}; clip or exclude it"
        )
    if column.low == column.high and not column.missing and not column.infinite:
        return FeatureChoice(dropped="constant")
    deviation = column.shaped.deviation or 1.0
    impute = column.moments.mean if setting.impute == "mean" else setting.impute
    number = Number(
        name=name,
        column=name,
        impute=impute,
        clip=setting.clip,
        log1p=setting.log1p,
        standardise=(column.shaped.mean, deviation) if setting.standardise else None,
    )
    wanted = setting.indicator and column.missing
    features: tuple[Feature, ...] = (number, Indicator(name=f"{name}.missing", column=name)) if wanted else (number,)
    largest = max(abs(column.low), abs(column.high))
    return FeatureChoice(
        features, note=_precision_note(name, largest, column.moments.deviation) if number.plain else None
    )


def _precision_note(name: str, largest: float, deviation: float) -> str | None:
    """A note where float32 cannot distinguish close values of a column: numbers far from zero that vary little."""
    step = float(np.spacing(np.float32(largest)))
    if largest <= EXACT_FLOAT32 or step * FEW_STEPS < deviation:
        return None
    return f"column {name!r}: float32 distinguishes its values in steps of {step:g} only; derive a difference, if it matters"


def _time(name: str, column: TimeColumn, setting: Column) -> FeatureChoice:
    assert column.low is not None
    varying = [part for part, value in column.parts.items() if value is None]
    wanted = list(dict.fromkeys(setting.parts)) or varying
    # With missing values even a constant part is informative, but a single part is enough.
    parts = [part for part in wanted if part in varying] or (wanted or ["epoch"])[:1] * bool(column.missing)
    if not parts:
        return FeatureChoice(dropped="constant")
    origin = column.low // DAY_SECONDS * DAY_SECONDS
    return FeatureChoice(
        tuple(
            TimePart(name=f"{name}.{part}", column=name, part=part, origin=origin if part == "epoch" else 0)
            for part in parts
        )
    )
