"""Decides from the survey: the kind of task, and where a split by time is cut.

Objective `auto`, in this order:
1. data.group is given                  rank:ndcg
2. two distinct values (or booleans)    binary:logistic
3. text, or a categorical of numbers    multi:softprob
4. numbers                              reg:squarederror
"""

import bisect

import numpy as np
import pyarrow as pa

from pipeline.config.job import Data, Training, Validation
from pipeline.data.keys import place_of, seed_for
from pipeline.data.schema.label_limits import check_numbers, refuse
from pipeline.data.schema.target import EXACT_FLOAT64, ClassValue, Kind, Target, value_kind
from pipeline.data.schema.target_survey import MAX_CLASSES, LabelSurvey, TargetSurvey, TimeSample
from pipeline.data.split import Split, decoded, is_time, values_as
from pipeline.errors import DataError

MOST_VALUES = 5  # of data.validation.values in a message


def check_types(data: Data, training: Training, schema: pa.Schema) -> None:
    """DataError where the columns' types alone make the job impossible; `schema` holds derived columns too."""
    name = str(data.target)
    kind = schema.field(name).type
    values = value_kind(kind.value_type if pa.types.is_dictionary(kind) else kind)
    if values == "other":
        refuse(name, f"is {kind}; derive a number or a text from it under data.derive")
    if training.objective != "auto":
        _check_task(data, training, training.objective)
        if values == "text" and _kind(training.objective) in ("regression", "ranking"):
            refuse(name, _needs_numbers(training.objective))
    if data.weight is not None:
        kind = schema.field(data.weight).type
        if not any(test(kind) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)):
            raise DataError(f"the weight {data.weight} is {kind}; weights are numbers >= 0")
    validation = data.validation
    if validation is not None and validation.column is not None:
        _as_values(validation, schema)
    if validation is not None and validation.time is not None and not is_time(schema.field(validation.time).type):
        raise DataError(
            f"data.validation.time: {validation.time} is {schema.field(validation.time).type}; "
            "expected a timestamp, date or number"
        )


def _check_task(data: Data, training: Training, objective: str) -> None:
    """DataError where group, positive class or class weights do not go with the objective."""
    kind = _kind(objective)
    if kind == "ranking" and data.group is None:
        raise DataError(
            f"training.objective = {objective!r} ranks within queries: name the column of query ids as data.group"
        )
    if kind != "ranking" and data.group is not None:
        raise DataError(f"data.group is for ranking, and training.objective is {objective!r}: leave one of them out")
    if kind != "binary" and data.positive is not None:
        raise DataError(
            f"data.positive = {data.positive!r} is for a target of two classes; {data.target} makes a {kind} task"
        )
    if kind in ("regression", "ranking") and training.class_weights is not None:
        raise DataError(
            f"training.class_weights is for classes; {data.target} makes a {kind} task (training.objective = {objective!r})"
        )


def _as_values(validation: Validation, schema: pa.Schema) -> Split:
    """The split by values of a column; DataError where they do not fit its type."""
    column = str(validation.column)
    split = Split("values", column=column, values=tuple(validation.values))
    values_as(split, decoded(pa.chunked_array([], type=schema.field(column).type)).type)
    return split


def _needs_numbers(objective: str) -> str:
    return f"is text, and {objective} needs numbers: leave training.objective at auto, or derive a number from it"


def decide_target(data: Data, training: Training, survey: TargetSurvey, schema: pa.Schema) -> Target:
    """The task that the target's values imply; DataError where they imply none, naming the setting to change."""
    name, labels = str(data.target), survey.label
    if survey.rows == 0 or labels is None:
        raise DataError("data.where leaves out every row" if survey.read else "the source has no rows")
    if labels.kind == "other":
        refuse(name, f"is {schema.field(name).type}; derive a number or a text from it under data.derive")
    if labels.infinite:
        refuse(name, f"is infinite in {labels.infinite} rows, first at {place_of(int(labels.first_infinite or 0))}")
    if labels.missing == survey.rows:
        refuse(name, f"is missing in all {survey.rows} rows")
    if labels.counts is not None and len(labels.counts) == 1:
        refuse(name, "has the same value in every row: one class only, nothing to learn")
    objective = _auto(data, labels, schema.field(name).type) if training.objective == "auto" else training.objective
    kind = _kind(objective)
    _check_task(data, training, objective)
    if kind in ("binary", "multiclass"):
        _check_apart(name, schema.field(name).type, labels)
        classes = _classes(schema.field(name), kind, objective, data, labels)
        counts = labels.counts or {}
        return Target(name, kind, objective, classes, tuple(counts[value] for value in classes))
    check_numbers(name, objective, training, labels)
    return Target(name, kind, objective)


def decide_split(data: Data, survey: TargetSurvey, schema: pa.Schema, seed: int) -> Split:
    """How the rows of the training source are split; a validation source has `Split("all_validation")` instead."""
    validation = data.validation
    if validation is None or validation.source is not None:
        return Split("none")
    if validation.column is not None:
        return _as_values(validation, schema)
    share = float(validation.share or 0.0)
    if validation.time is None:
        return Split("share", share=share, seed=seed_for(seed, "validation"))
    kind = schema.field(validation.time).type
    if not is_time(kind):
        raise DataError(f"data.validation.time: {validation.time} is {kind}; expected a timestamp, date or number")
    if survey.times is None or len(survey.times.values) == 0:
        raise DataError(f"data.validation.time: {validation.time} is missing in every row")
    return Split(
        "time", share=share, column=validation.time, threshold=_threshold(validation.time, survey.times, share)
    )


def check_held_out(data: Data, rows: int, validation_rows: int) -> None:
    """DataError where validation was requested and no row validates: a run would train on all `rows`, and never stop
    early.
    """
    validation = data.validation
    if validation is None or validation_rows:
        return
    if validation.source is not None:
        raise DataError("data.validation.source: none of its rows passes data.where and has a label")
    if validation.column is not None:
        values = ", ".join(map(repr, validation.values[:MOST_VALUES])) + ", ..." * (
            len(validation.values) > MOST_VALUES
        )
        raise DataError(
            f"data.validation.values = [{values}]: no row has one of them in the column {validation.column!r}; "
            f"all {rows:,} would train"
        )
    if validation.time is not None:
        raise DataError(
            f"data.validation.time: no row in the last share of {validation.share} by the column {validation.time!r} has a "
            f"label; all {rows:,} others would train"
        )
    raise DataError(
        f"data.validation.share = {validation.share}: selects none of the {rows:,} rows"
        + (" or their queries" if data.group else "")
        + "; choose a larger share"
    )


def _auto(data: Data, labels: LabelSurvey, kind: pa.DataType) -> str:
    if data.group is not None:
        return "rank:ndcg"
    if labels.counts is not None and len(labels.counts) == 2:
        return "binary:logistic"
    return "multi:softprob" if labels.kind == "text" or pa.types.is_dictionary(kind) else "reg:squarederror"


def _kind(objective: str) -> Kind:
    family = objective.partition(":")[0]
    kinds: dict[str, Kind] = {"binary": "binary", "multi": "multiclass", "rank": "ranking"}
    return kinds.get(family, "regression")


def _check_apart(name: str, kind: pa.DataType, labels: LabelSurvey) -> None:
    """DataError where classes are decimals of more digits than float64 can distinguish."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not pa.types.is_decimal(kind) or labels.kind == "int":
        return
    largest = max(abs(labels.minimum or 0.0), abs(labels.maximum or 0.0))
    if largest * 10.0**kind.scale >= EXACT_FLOAT64:
        refuse(
            name,
            f"is {kind} with values of so many digits that classes cannot be distinguished: derive texts under data.derive, "
            f"e.g. CAST(... AS VARCHAR)",
        )


def _classes(target: pa.Field, kind: Kind, objective: str, data: Data, labels: LabelSurvey) -> tuple[ClassValue, ...]:
    """The classes in order; binary: the positive one last."""
    name, type_name = target.name, "text" if labels.kind == "text" else str(target.type)
    if labels.counts is None:
        what = "a text" if labels.kind == "text" else "a number"
        refuse(name, f"is {what} of more than {MAX_CLASSES} distinct values, too many classes for {objective}")
    classes = tuple(sorted(labels.counts))
    if kind != "binary":
        return classes
    if len(classes) != 2:
        refuse(
            name,
            f"has {len(classes)} distinct values, and {objective} needs two: choose multi:softprob, or derive one of two",
        )
    if data.positive is None:
        return classes
    matches = [
        value for value in classes if value == data.positive or (isinstance(value, str) and value == str(data.positive))
    ]
    if not matches:
        raise DataError(
            f"data.positive = {data.positive!r} is neither of the two classes of {name}: the classes are {type_name}, "
            f"positive is {_type_of(data.positive)}"
        )
    return (classes[0], classes[1]) if matches[0] == classes[1] else (classes[1], classes[0])


def _type_of(value: str | int | float | bool) -> str:
    """
    >>> [_type_of(value) for value in ("0", True, 0, 0.5)]
    ['a text', 'true or false', 'a whole number', 'a number']
    """
    kinds = {str: "a text", bool: "true or false", int: "a whole number"}
    return kinds.get(type(value), "a number")


def _threshold(name: str, times: TimeSample, share: float) -> int | float:
    """The time from which rows validate: the time whose share of the sample is nearest to the requested share."""
    values = np.sort(times.values).tolist()
    wanted = values[min(round((1 - share) * len(values)), len(values) - 1)]
    first, beyond = bisect.bisect_left(values, wanted), bisect.bisect_right(values, wanted)
    cuts = [place for place in (first, beyond) if 0 < place < len(values)]
    if not cuts:
        raise DataError(f"data.validation.time: {name} is the same in every row, so no last share can be cut off")
    best = min(cuts, key=lambda place: abs((len(values) - place) / len(values) - share))
    threshold: int | float = values[best]
    return threshold
