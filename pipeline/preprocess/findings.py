"""Finds suspicious columns, classes and targets in the statistics pass: data that the user can hardly have meant."""

from collections.abc import Collection

import numpy as np

from pipeline.config.validation_messages import show_path
from pipeline.data.schema.target import Target
from pipeline.data.schema.target_survey import LabelSurvey
from pipeline.events.findings import Finding
from pipeline.preprocess.recipe import Recipe
from pipeline.preprocess.statistics.collect import LabelStatistics, Statistics
from pipeline.preprocess.statistics.column_statistics import CategoryColumn, NumberColumn
from pipeline.preprocess.text_dates import text_dates

MOST_SQUARES = 0.01 * float(np.finfo(np.float32).max)  # weights, and rows that many nodes share, leave a margin of 100
# Float32 values within a standard deviation.  Of 10 rounds on 2,000 rows, R2 was 0.994 with 50 and more, 0.993 with 26,
# 0.970 with 6 and 0.891 with 3.
FEW_STEPS = 15
FEW_VALUES = 20  # of a target: up to so many, whole numbers may be classes


def target_findings(labels: LabelSurvey, target: Target, objective: str) -> tuple[Finding, ...]:
    """Whole numbers of few values that are trained as a regression, as `objective` (the job's) leaves that open."""
    values = len(labels.counts or {})
    if objective != "auto" or target.kind != "regression" or labels.kind != "int" or not 0 < values <= FEW_VALUES:
        return ()
    message = (
        f"the target {target.column} has {values} different whole numbers and is trained as a regression: if they are classes, "
        f'training.objective = "multi:softprob"; "{target.objective}" keeps it without this note'
    )
    return (Finding("few_whole_numbers", message, column=target.column, count=values, setting="training.objective"),)


def statistics_findings(
    statistics: Statistics, recipe: Recipe, target: Target, confirmed: Collection[str] = ()
) -> tuple[Finding, ...]:
    """Findings from the statistics of all training rows; `recipe`: the fitted recipe."""
    columns = [found for name in statistics.columns for found in _counting(name, statistics, recipe)]
    dates = [found for name in statistics.columns if name not in confirmed for found in _dates(name, statistics)]
    return (*columns, *dates, *_rare_classes(statistics, target), *_numbers_of(statistics.label, target))


def sum_of_squares_overflows(label: LabelStatistics, objective: str) -> bool:
    """Whether the gains of splits exceed float32: with squared errors they grow up to the labels' sum of squares."""
    return objective == "reg:squarederror" and label.moments.m2 > MOST_SQUARES


def few_steps(label: LabelStatistics) -> float | None:
    """The step between float32 values at the largest label, where it is too coarse for their standard deviation."""
    step = float(np.spacing(np.float32(max(abs(label.low), abs(label.high)))))
    return step if step * FEW_STEPS > label.moments.deviation > 0 else None


def _numbers_of(label: LabelStatistics, target: Target) -> list[Finding]:
    """Findings on labels of regression, or sums of them, that float32 cannot hold accurately."""
    if target.kind != "regression" or not label.moments.count:
        return []
    found, name, deviation = [], target.column, f"{label.moments.deviation:.2g} (standard deviation)"
    if sum_of_squares_overflows(label, target.objective):
        message = (
            f"the target {name} is too large in scale, {deviation} over {label.moments.count:,} rows: the gains of splits "
            "go beyond float32 (3.4e38), and splits are lost; divide it under data.derive, and multiply the predictions"
        )
        found.append(Finding("large_target", message, column=name, count=label.moments.count, setting="data.derive"))
    if (step := few_steps(label)) is not None:
        message = (
            f"the target {name} is far from 0 and varies by {deviation}, where float32, in which models are trained, has "
            f"steps of {step:.2g}: the model loses accuracy; subtract a number close to its mean under data.derive"
        )
        found.append(Finding("coarse_target", message, column=name, setting="data.derive"))
    return found


def _counting(name: str, statistics: Statistics, recipe: Recipe) -> list[Finding]:
    """A column that counts the rows or is a clock."""
    column = statistics.columns[name]
    order = column.order if isinstance(column, NumberColumn) else None
    if order is None or order.kind is None:
        return []
    setting = show_path(("preprocess", "columns", name, "kind"))
    facts = f"{order.distinct.share:.1%} of {order.values:,} values are distinct, {order.in_order:.1%} in order"
    if order.kind == "clock":
        message = (
            f"column {name!r} rises or falls with the rows as a clock does ({facts}): where the files are sorted by time, new "
            f'rows lie outside of what was trained on; {setting} = "drop" leaves it out, "number" keeps it without this note'
        )
    elif name in recipe.dropped:
        message = (
            f'column {name!r} is left out, a row number or an id in row order ({facts}): {setting} = "number" keeps it'
        )
    else:
        message = (
            f"column {name!r} is kept as there is no other feature, but it is a row number or an id in row order ({facts}): "
            f'{setting} = "number" if that is meant'
        )
    return [Finding(order.kind, message, column=name, count=order.values, setting=setting)]


def _dates(name: str, statistics: Statistics) -> list[Finding]:
    """A column of text whose levels are dates."""
    column = statistics.columns[name]
    if not isinstance(column, CategoryColumn) or "string" not in statistics.types[name]:
        return []
    dates = text_dates(column.counts.levels)
    if dates is None:
        return []
    setting = show_path(("preprocess", "columns", name, "kind"))
    if dates.all_read:
        how = f'{setting} = "time" reads them'
    elif dates.format is None:
        how = "data.derive with TRY_CAST(... AS TIMESTAMP) reads them, and makes the others missing"
    else:
        how = f"data.derive with try_strptime(..., '{dates.format}') reads them"
    message = (
        f"column {name!r} is text, and {dates.share:.0%} of {dates.looked_at:,} different values looked at read as dates: as "
        f'categories they carry no information about later dates; {how}, {setting} = "category" keeps it without this note'
    )
    return [Finding("text_dates", message, column=name, count=dates.looked_at, setting=setting)]


def _rare_classes(statistics: Statistics, target: Target) -> list[Finding]:
    """Classes with no training row or only one."""
    counts = statistics.class_counts
    found = []
    for kind, rows, setting in (("class_without_rows", 0, "data.validation"), ("class_of_one_row", 1, "data.where")):
        many = sum(count == rows for count in counts)
        if many:
            have = "have" if many > 1 else "has"
            message = (
                f"{many} of the {len(counts)} classes of the target {target.column} {have} {rows} training row{'s' * (not rows)}: "
                f"two spellings of a class, a header among the rows, or the choice of validation rows; see {setting}"
            )
            found.append(Finding(kind, message, column=target.column, count=many, setting=setting))
    return found
