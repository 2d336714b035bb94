"""Defines the kinds of feature a recipe is made of: frozen values that say how one raw column becomes one feature."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.config.encoding import ENCODING
from pipeline.preprocess.transforms import PARTS

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Levels:
    """The levels of a column, in the order of their codes: sorted by their text."""

    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def array(self) -> pa.Array:
        """The levels as large_string, for lookups."""
        return pa.array(self.names, pa.large_string())


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number: impute, clip, log1p, standardise, in this order, each only if given."""

    encoding: ClassVar[str] = "number"
    name: str
    column: str
    impute: float | None = None  # replaces missing values
    clip: tuple[float, float] | None = None
    log1p: bool = False
    standardise: tuple[float, float] | None = None  # mean, standard deviation

    @property
    def plain(self) -> bool:
        """Whether values pass through unchanged."""
        return self.impute is None and self.clip is None and not self.log1p and self.standardise is None


@dataclass(frozen=True, kw_only=True)
class Indicator:
    """1 where the column is missing, else 0."""

    encoding: ClassVar[str] = "indicator"
    name: str
    column: str


@dataclass(frozen=True, kw_only=True)
class Category:
    """The code of the level, for native categorical splits; missing where the level is unknown."""

    encoding: ClassVar[str] = "codes"
    name: str
    column: str
    levels: Levels


@dataclass(frozen=True, kw_only=True)
class TargetEncoding:
    """The smoothed mean of the label among the training rows of the level.

    Rows whose level is not in the table get the prior; missing stays missing.  Training rows get the mean of the
    other folds' rows (`fold_values`), so that no row's label is in its own feature.  recipe.json omits `fold_values`:
    only training needs them.
    """

    encoding: ClassVar[str] = "target"
    name: str
    column: str
    levels: Levels
    values: tuple[float, ...]  # by level
    prior: float
    label: str | None = None  # multi-class: the class whose share it is
    fold_values: npt.NDArray[np.float32] | None = field(default=None, compare=False, repr=False)  # (folds, levels)


@dataclass(frozen=True, kw_only=True)
class Frequency:
    """The share of the training rows that have the level; 0 where the level is not in the table."""

    encoding: ClassVar[str] = "frequency"
    name: str
    column: str
    levels: Levels
    values: tuple[float, ...]  # by level


@dataclass(frozen=True, kw_only=True)
class Hash:
    """A code from a hash of the level's text (CRC-32 of its UTF-8 modulo `bins`), for native categorical splits."""

    encoding: ClassVar[str] = "hash"
    name: str
    column: str
    bins: int


@dataclass(frozen=True, kw_only=True)
class TimePart:
    """A part of a time, in UTC where it has a zone; `epoch`: days since `origin`."""

    encoding: ClassVar[str] = "time"
    name: str
    column: str
    part: str
    origin: int = 0  # seconds since 1970


Feature = Number | Indicator | Category | TargetEncoding | Frequency | Hash | TimePart
KINDS: tuple[type[Feature], ...] = (Number, Indicator, Category, TargetEncoding, Frequency, Hash, TimePart)


@dataclass(frozen=True)
class FeatureChoice:
    """The features of one column, or why it has none."""

    features: tuple[Feature, ...] = ()
    dropped: str | None = None  # why it has no features
    note: str | None = None  # for the user


def level_count(feature: Feature) -> int | None:
    """The number of codes of a categorical feature; None for a numeric one."""
    if isinstance(feature, Category):
        return len(feature.levels)
    return feature.bins if isinstance(feature, Hash) else None


def check_feature(feature: Feature) -> None:
    """ValueError where the numbers of a feature that was read from a file are impossible as the result of a fit."""
    if isinstance(feature, (TargetEncoding, Frequency)) and len(feature.values) != len(feature.levels):
        raise ValueError(f"{feature.name} has {len(feature.values)} values for {len(feature.levels)} levels")
    if isinstance(feature, (TargetEncoding, Frequency)) and not _in_float32(feature.values):
        raise ValueError(f"{feature.name} has values beyond float32")
    if isinstance(feature, TargetEncoding) and not _in_float32((feature.prior,)):
        raise ValueError(f"{feature.name} has a prior beyond float32")
    if isinstance(feature, Hash) and not 1 <= feature.bins <= ENCODING.most_levels:
        raise ValueError(f"{feature.name} has {feature.bins} bins, 1 to {ENCODING.most_levels} are possible")
    if isinstance(feature, Category) and len(feature.levels) > ENCODING.most_levels:
        raise ValueError(f"{feature.name} has {len(feature.levels)} levels, up to {ENCODING.most_levels} are possible")
    if isinstance(feature, TimePart) and (feature.part not in PARTS or abs(feature.origin) > 2**64):
        raise ValueError(f"{feature.name} is no part of a time")
    if isinstance(feature, Number):
        if feature.standardise is not None and not feature.standardise[1] > 0:
            raise ValueError(f"{feature.name} is divided by {feature.standardise[1]}")
        if feature.clip is not None and not feature.clip[0] < feature.clip[1]:
            raise ValueError(f"{feature.name} is clipped to {feature.clip}: the lowest value comes first")
        if not _in_float32((feature.impute or 0.0, *(feature.clip or ()))):
            raise ValueError(f"{feature.name} has options beyond float32")


def _in_float32(values: tuple[float, ...]) -> bool:
    return all(abs(value) <= FLOAT32_MAX for value in values)


def rounded(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Values rounded as features hold them: the shortest decimals that are the same float32."""
    # By bits, which tell -0.0 from 0.0.  Levels of few rows have few distinct values between them.
    bits, places = np.unique(values.astype(np.float32).view(np.int32), return_inverse=True)
    distinct = np.array([float(str(value)) for value in bits.view(np.float32)])
    return tuple(distinct[places].tolist())


def feature_names(names: Sequence[str]) -> list[str]:
    """Names that XGBoost takes, in their order: without [, ] and <, and without characters that its C strings or a page
    cannot show.

    >>> feature_names(["x[1]", "income=<50K", "x(1)"])
    ['x(1)', 'income=_50K', 'x(1)_2']
    """
    return _distinct_names([_plain_name(name) for name in names])


def _plain_name(name: str) -> str:
    plain = name.translate({ord("["): "(", ord("]"): ")", ord("<"): "_"})
    return plain if plain.isprintable() else "".join(sign if sign.isprintable() else "_" for sign in plain)


def _distinct_names(names: Sequence[str]) -> list[str]:
    """The names, with _2, _3, ... after those that would appear twice."""
    taken = set(names)
    seen: set[str] = set()
    found = []
    for name in names:
        chosen, number = name, 1
        while chosen in seen or (number > 1 and chosen in taken):
            number += 1
            chosen = f"{name}_{number}"
        seen.add(chosen)
        found.append(chosen)
    return found
