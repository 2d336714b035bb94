"""The recipe: the fitted preprocessing, as plain values and as JSON.

recipe.json is meant to be read: which features there are, what each is made of, and every number it uses.

    {"format": "pipeline-recipe", "version": 1, "seed": 0, "folds": 5,
     "levels": {"carrier": ["AA", "UA"]},
     "features": [{"encoding": "number", "name": "distance", "column": "distance"},
                  {"encoding": "codes", "name": "carrier", "column": "carrier"}, ...],
     "dropped": {"year": "constant"}, "notes": []}
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.data.target import Target
from pipeline.errors import DataError, ModelError
from pipeline.job import Preprocess
from pipeline.preprocess.choose import choose
from pipeline.preprocess.features import KINDS, Feature, Levels, TargetEncoding, distinct_names, level_count
from pipeline.preprocess.settings import column_settings
from pipeline.preprocess.statistics import Statistics

FORMAT = "pipeline-recipe"
VERSION = 1  # of recipe.json


@dataclass(frozen=True)
class Recipe:
    """How raw columns become features."""

    features: tuple[Feature, ...]
    dropped: dict[str, str]  # column -> why it became no feature
    notes: tuple[str, ...] = ()  # what the user should know, one line each
    seed: int = 0  # of the folds
    folds: int = 5  # of out-of-fold encodings
    version: int = VERSION

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names, distinct."""
        return tuple(feature.name for feature in self.features)

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns that are needed, each once."""
        return tuple(dict.fromkeys(feature.column for feature in self.features))

    @property
    def levels(self) -> tuple[int | None, ...]:
        """By feature: the number of its codes where it is categorical, else None."""
        return tuple(level_count(feature) for feature in self.features)

    @property
    def kinds(self) -> tuple[str, ...]:
        """By feature: XGBoost's feature type, "c" where it is categorical, else "q"."""
        return tuple("q" if count is None else "c" for count in self.levels)

    @property
    def out_of_fold(self) -> frozenset[int]:
        """The places of the features whose values differ between training rows and all others."""
        return frozenset(i for i, feature in enumerate(self.features) if isinstance(feature, TargetEncoding))

    def to_json(self) -> str:
        """The recipe without what only training needs (encodings by fold)."""
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
        """ModelError where the text is no recipe, or one of a newer version."""
        try:
            value = json.loads(text)
            if value["format"] != FORMAT:
                raise ModelError(f"the recipe's format is {value['format']!r}, not {FORMAT!r}")
            if value["version"] > VERSION:
                raise ModelError(
                    f"the recipe is of version {value['version']}, this program reads up to {VERSION}: use a newer one"
                )
            tables = {column: Levels(tuple(names)) for column, names in value["levels"].items()}
            return cls(
                features=tuple(_feature(entry, tables) for entry in value["features"]),
                dropped=value["dropped"],
                notes=tuple(value["notes"]),
                seed=value["seed"],
                folds=value["folds"],
                version=value["version"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"the recipe is damaged: {type(error).__name__} {error}") from None


def fit_recipe(statistics: Statistics, preprocess: Preprocess, target: Target) -> Recipe:
    """The recipe that the statistics of all training rows lead to.

    DataError where there are no training rows, a feature has infinite values, or no feature is left.
    """
    if not statistics.rows:
        raise DataError("there are no training rows: all were left out, or are held out for validation")
    features: list[Feature] = []
    dropped: dict[str, str] = {}
    notes: list[str] = []
    settings = column_settings(preprocess, list(statistics.types))
    for name, column in statistics.columns.items():
        chosen = choose(name, column, settings[name], statistics, (preprocess, target))
        features.extend(chosen.features)
        if chosen.dropped is not None:
            dropped[name] = chosen.dropped
        if chosen.note is not None:
            notes.append(chosen.note)
    if dropped:
        listed = ", ".join(f"{name} ({reason})" for name, reason in dropped.items())
        notes.insert(0, f"columns that say nothing in the training rows are left out: {listed}")
    if not features:
        raise DataError(f"no feature is left: {notes[0] if notes else 'the source has no feature columns'}")
    names = distinct_names([feature.name for feature in features])
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
    """A feature as JSON; fields at their default are left out, levels stand in a table of their own."""
    entry: dict[str, Any] = {"encoding": feature.encoding}
    for field in dataclasses.fields(feature):
        value = getattr(feature, field.name)
        if field.name not in ("levels", "fold_values") and value != field.default:
            entry[field.name] = value
    return entry


def _feature(entry: dict[str, Any], tables: dict[str, Levels]) -> Feature:
    kind = {kind.encoding: kind for kind in KINDS}[entry["encoding"]]
    known = {field.name for field in dataclasses.fields(kind)}
    values = {
        name: tuple(value) if isinstance(value, list) else value for name, value in entry.items() if name != "encoding"
    }
    if not set(values) <= known - {"levels", "fold_values"}:
        raise ValueError(f"unknown field of a {entry['encoding']} feature")
    if "levels" in known:
        values["levels"] = tables[entry["column"]]
        if "values" in known and len(values["values"]) != len(values["levels"]):
            raise ValueError(f"{entry['name']} has {len(values['values'])} values for {len(values['levels'])} levels")
    make: Callable[..., Feature] = kind
    return make(**values)
