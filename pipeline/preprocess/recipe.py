"""Fits the recipe, and reads and writes it: the fitted preprocessing, as plain values and as JSON.

recipe.json is readable: it lists the features, their inputs, and every number they use.

    {"format": "pipeline-recipe", "version": 1, "seed": 0, "folds": 5,
     "levels": {"carrier": ["AA", "UA"]},
     "features": [{"encoding": "number", "name": "distance", "column": "distance"},
                  {"encoding": "codes", "name": "carrier", "column": "carrier"}, ...],
     "dropped": {"year": "constant"}, "notes": []}
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from pipeline.config.job import Preprocess
from pipeline.config.records import from_json
from pipeline.data.schema.target import Target
from pipeline.errors import DataError, ModelError
from pipeline.preprocess.choose import choose
from pipeline.preprocess.features import (
    KINDS,
    Feature,
    FeatureChoice,
    Levels,
    TargetEncoding,
    check_feature,
    feature_names,
    level_count,
)
from pipeline.preprocess.settings import column_settings
from pipeline.preprocess.statistics.collect import Statistics
from pipeline.preprocess.statistics.column_statistics import NumberColumn

FORMAT = "pipeline-recipe"
ROW_NUMBER = "row number"  # why a column is left out
VERSION = 1  # of recipe.json


@dataclass(frozen=True)
class Recipe:
    """How raw columns become features."""

    features: tuple[Feature, ...]
    dropped: dict[str, str]  # column -> why it has no feature
    notes: tuple[str, ...] = ()  # for the user, one line each
    seed: int = 0  # of the folds
    folds: int = 5  # of out-of-fold encodings
    version: int = VERSION

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names, distinct."""
        return tuple(feature.name for feature in self.features)

    def lacks(self, feature: str) -> bool:
        """Whether this feature is missing because its column carries no information in these training rows."""
        if feature in self.names:
            return False
        plain = {feature_names([column])[0] for column in self.dropped}
        return any(feature == column or feature.startswith((f"{column}.", f"{column}=")) for column in plain)

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns that are needed, distinct."""
        return tuple(dict.fromkeys(feature.column for feature in self.features))

    @property
    def levels(self) -> tuple[int | None, ...]:
        """Number of codes per feature; None where it is numeric."""
        return tuple(level_count(feature) for feature in self.features)

    @property
    def kinds(self) -> tuple[str, ...]:
        """XGBoost's feature type per feature: "c" categorical, "q" numeric."""
        return tuple("q" if count is None else "c" for count in self.levels)

    @property
    def out_of_fold(self) -> frozenset[int]:
        """The places of the features whose values differ between training rows and all others."""
        return frozenset(i for i, feature in enumerate(self.features) if isinstance(feature, TargetEncoding))

    def to_json(self) -> str:
        """The recipe without the parts that only training needs (encodings by fold)."""
        tables = {feature.column: list(_levels(feature)) for feature in self.features if _levels(feature)}
        value = {
            "format": FORMAT,
            "version": self.version,
            "seed": self.seed,
            "folds": self.folds,
            "levels": tables,
            "features": [_plain(feature) for feature in self.features],
            "dropped": self.dropped,
            "notes": list(self.notes),
        }
        return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """The recipe in a text; ModelError where the text is not a recipe, or of a newer version."""
        try:
            value = json.loads(text)
            if value["format"] != FORMAT:
                raise ModelError(f"the recipe's format is {value['format']!r}, not {FORMAT!r}")
            if value["version"] > VERSION:
                raise ModelError(
                    f"the recipe is of version {value['version']}, this program reads up to {VERSION}: use a newer one"
                )
            said = from_json(_RecipeFields, {name: value[name] for name in _RecipeFields.__dataclass_fields__})
            tables = {column: Levels(names) for column, names in said.levels.items()}
            features = tuple(_feature(entry, tables) for entry in value["features"])
            if len({feature.name for feature in features}) < len(features):
                raise ValueError("two features have the same name")
            return cls(features, said.dropped, said.notes, said.seed, said.folds, said.version)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"the recipe is damaged: {type(error).__name__} {error}") from None


@dataclass(frozen=True)
class _RecipeFields:
    """The other fields of recipe.json, and the tables of its levels."""

    levels: dict[str, tuple[str, ...]]
    dropped: dict[str, str]
    notes: tuple[str, ...]
    seed: int
    folds: int
    version: int


def fit_recipe(statistics: Statistics, preprocess: Preprocess, target: Target) -> Recipe:
    """The recipe that follows from the statistics of all training rows.

    DataError where there are no training rows, a feature has infinite values, or no feature is left.
    """
    if not statistics.rows:
        raise DataError("there are no training rows: all were left out, or are held out for validation")
    features: list[Feature] = []
    counting: dict[str, FeatureChoice] = {}  # of row numbers
    dropped: dict[str, str] = {}
    notes: list[str] = []
    settings = column_settings(preprocess, list(statistics.types))
    for name, column in statistics.columns.items():
        chosen = choose(name, column, settings[name], statistics, (preprocess, target))
        if chosen.features and isinstance(column, NumberColumn) and column.counts_rows:
            counting[name] = chosen
            continue
        features.extend(chosen.features)
        if chosen.dropped is not None:
            dropped[name] = chosen.dropped
        if chosen.note is not None:
            notes.append(chosen.note)
    if dropped:
        listed = ", ".join(f"{name} ({reason})" for name, reason in dropped.items())
        notes.insert(0, f"columns that carry no information in the training rows are left out: {listed}")
    if features:
        dropped |= dict.fromkeys(counting, ROW_NUMBER)
    else:  # a row number as the only column must be intended
        features = [feature for chosen in counting.values() for feature in chosen.features]
        notes += [chosen.note for chosen in counting.values() if chosen.note is not None]
    if not features:
        raise DataError(f"no feature is left: {notes[0] if notes else 'the source has no feature columns'}")
    names = feature_names([feature.name for feature in features])
    return Recipe(
        features=tuple(
            feature if feature.name == name else dataclasses.replace(feature, name=name)
            for feature, name in zip(features, names, strict=True)
        ),
        dropped=dropped,
        notes=tuple(notes),
        seed=statistics.seed,
        folds=preprocess.folds,
    )


def _levels(feature: Feature) -> tuple[str, ...]:
    levels = getattr(feature, "levels", None)
    return () if levels is None else levels.names


def _plain(feature: Feature) -> dict[str, Any]:
    """A feature as JSON; fields at their default are left out, levels are in a table of their own."""
    entry: dict[str, Any] = {"encoding": feature.encoding}
    for field in dataclasses.fields(feature):
        value = getattr(feature, field.name)
        if field.name not in ("levels", "fold_values") and value != field.default:
            entry[field.name] = value
    return entry


def _feature(entry: dict[str, Any], tables: dict[str, Levels]) -> Feature:
    kind = {kind.encoding: kind for kind in KINDS}[entry["encoding"]]
    values = {name: value for name, value in entry.items() if name != "encoding"}
    if not values.keys().isdisjoint(("levels", "fold_values")):
        raise ValueError(f"unknown field of a {entry['encoding']} feature")
    if "levels" in kind.__dataclass_fields__:
        values["levels"] = {"names": list(tables[entry["column"]].names)}
    feature = from_json(kind, values)
    check_feature(feature)
    return feature
