"""Assigns the roles of columns: features, target, weight, group, ids; and the raw columns they need."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow.types as pt

from pipeline.config.job import Data, Job
from pipeline.config.names import hint, listed, matches, separator_hint
from pipeline.data.formats.libsvm import LABEL, QUERY
from pipeline.data.schema.derive import DerivedSchema
from pipeline.data.source import NO_VALUE, Source
from pipeline.errors import DataError
from pipeline.events.findings import UserNote

_OF_PREDICTIONS = re.compile(r"row|prediction|prediction_[\d.]+|probability(_.*)?|contribution_.*")


@dataclass(frozen=True)
class Roles:
    """The columns of each role."""

    features: tuple[str, ...]  # in the order of the schema, raw and derived
    target: str | None = None  # None at prediction
    weight: str | None = None
    group: str | None = None  # the query of a ranking task
    id: tuple[str, ...] = ()  # copied to predictions
    validation: str | None = None  # the column that data.validation names by `column` or `time`
    read: tuple[str, ...] = ()  # raw columns to read for training and evaluation
    predict: tuple[str, ...] = ()  # raw columns to read for prediction: the features' and the ids'
    notes: tuple[UserNote, ...] = ()  # for the user: what was left out and why, each emitted once


def with_built_in(job: Job, source: Source) -> Job:
    """The job with the target and the group that LIBSVM files have built in, where it names none.

    Without a ranking objective, their queries are left out of the features.
    """
    if source.format != "libsvm":
        return job
    data = job.data
    update: dict[str, object] = {} if data.target is not None else {"target": LABEL}
    if data.group is None and QUERY in source.schema.names and data.target in (None, LABEL):
        if job.training.objective == "auto" or job.training.objective.startswith("rank:"):
            update["group"] = QUERY
        else:
            update["exclude"] = [*data.exclude, QUERY]
    return job.model_copy(update={"data": data.model_copy(update=update)})


def assign_roles(data: Data, derived: DerivedSchema, left_out: Mapping[str, str] | None = None) -> Roles:
    """Assigns the role of each column of a training source.

    The target, weight, group, ids, columns that match `exclude`, and the inputs of a derived target or weight are
    never features, nor are raw columns of type null, which are used only if a setting names them.  `left_out`: the
    other columns of the files, and why they cannot be used; `exclude` may name them.  DataError for unknown names
    (with the nearest), a column with two roles, no features.
    """
    names = derived.schema.names
    find = _Names(data, derived, left_out or {})
    target = find.usable("data.target", data.target)
    if target is None:
        raise DataError("data.target is missing: name the column to predict")
    weight = find.usable("data.weight", data.weight)
    group = find.usable("data.group", data.group)
    ids = tuple(str(find.there("data.id", name)) for name in data.id)
    _distinct_parts(target, weight, group, ids)
    _free_names(ids)
    validation = _validation_column(data, find)
    out, notes = _left_out(data, derived, find, target, weight)
    apart = {target, weight, group, *ids, *_empty(derived)} | out
    features = tuple(name for name in names if name not in apart)
    if not features:
        raise DataError("no features are left: every column is the target, the weight, the group, an id or excluded")
    training = [name for name in (*features, target, weight, group, validation) if name is not None]
    return Roles(
        features=features,
        target=target,
        weight=weight,
        group=group,
        id=ids,
        validation=validation,
        read=_in_order(derived, derived.raw_inputs(training) | derived.where),
        predict=_in_order(derived, derived.raw_inputs([*features, *ids])),
        notes=(*notes, *_shared_inputs(derived, features, target)),
    )


@dataclass(frozen=True)
class _Names:
    """The columns that the settings of [data] can name."""

    data: Data
    derived: DerivedSchema
    left_out: Mapping[str, str]  # columns of the files that cannot be used: why

    def there(self, setting: str, name: str | None) -> str | None:
        """The name; DataError where there is no such column, or it cannot be used."""
        if name is None or name in self.derived.schema.names:
            return name
        if name in self.left_out:
            raise DataError(f"{setting} = {name!r}: the column {self.left_out[name]}")
        more = separator_hint(self.derived.schema.names) or hint(name, self.free(setting))
        raise DataError(f"{setting} = {name!r}: no such column{more}")

    def usable(self, setting: str, name: str | None) -> str | None:
        """The same, and DataError where the column holds no value."""
        found = self.there(setting, name)
        if found is not None and found in _empty(self.derived):
            raise DataError(f"{setting} = {name!r}: the column {NO_VALUE}")
        return found

    def free(self, setting: str) -> list[str]:
        """The columns without a role in another setting: candidates for this one."""
        data = self.data
        parts: dict[str, Sequence[str | None]] = {
            "data.target": [data.target],
            "data.weight": [data.weight],
            "data.group": [data.group],
            "data.id": data.id,
        }
        if setting.startswith("data.validation"):  # the column of a split may have another role, except the target
            parts = {"data.target": [data.target]}
        taken = {name for other, names in parts.items() if other != setting for name in names}
        return [name for name in self.derived.schema.names if name not in taken]


def _empty(derived: DerivedSchema) -> frozenset[str]:
    """The raw columns without any value."""
    raw = set(derived.raw) - set(derived.inputs)
    return frozenset(item.name for item in derived.schema if pt.is_null(item.type) and item.name in raw)


def _distinct_parts(target: str, weight: str | None, group: str | None, ids: tuple[str, ...]) -> None:
    """DataError if a column has two roles that exclude each other."""
    for setting, others in (("data.weight", [weight]), ("data.group", [group]), ("data.id", list(ids))):
        if target in others:
            raise DataError(f"{setting}: {target} is the target already")
    if weight is not None and weight == group:
        raise DataError(f"data.group: {weight} is the weight already")


def _free_names(ids: tuple[str, ...]) -> None:
    """DataError for an id with a name that predictions need for a column of their own."""
    for name in ids:
        if _OF_PREDICTIONS.fullmatch(name):
            raise DataError(f"data.id: predictions have a column {name} of their own; rename it in the data")


def _validation_column(data: Data, find: _Names) -> str | None:
    if data.validation is None:
        return None
    for setting in ("column", "time"):
        name = find.usable(f"data.validation.{setting}", getattr(data.validation, setting))
        if name is not None:
            return name
    return None


def _left_out(
    data: Data, derived: DerivedSchema, find: _Names, target: str, weight: str | None
) -> tuple[set[str], list[str]]:
    """(columns that are not features by `exclude` or because target or weight is made of them, the notes)."""
    names = derived.schema.names
    out: set[str] = set()
    notes: list[str] = []
    for pattern in data.exclude:
        known = [*names, *find.left_out]
        found = {pattern} if pattern in known else {name for name in known if matches(pattern, name)}
        if not found and not any(sign in pattern for sign in "*?["):
            raise DataError(f"data.exclude: no column {pattern}{hint(pattern, find.free('data.exclude'))}")
        if not found:
            notes.append(f"data.exclude: {pattern} matches no column")
        out |= found
    for part, name in (("target", target), ("weight", weight)):
        used = derived.uses.get(str(name), frozenset()) - out - {str(name)}
        if used:
            left, it = ("is left out", "it") if len(used) == 1 else ("are left out", "them")
            notes.append(
                f"{listed(column for column in names if column in used)} {left}: the {part} {name} is made from {it}"
            )
        out |= used
    return out, notes


def _shared_inputs(derived: DerivedSchema, features: tuple[str, ...], target: str) -> list[str]:
    """Notes on derived features that the user made from a column from which the target is made: a possible leak."""
    source = derived.inputs.get(target, frozenset({target}))
    notes = []
    for name in features:
        if shared := derived.inputs.get(name, frozenset()) & source:
            notes.append(
                f"the feature {name} is made from {listed(sorted(shared))}, as the target {target} is: check for leaks"
            )
    return notes


def _in_order(derived: DerivedSchema, names: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in derived.raw if name in names)
