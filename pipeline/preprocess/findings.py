"""Finds suspicious columns, classes and targets in the statistics pass: data that the user can hardly have meant."""

from pipeline.config.problems import show_path
from pipeline.data.schema.target import Target
from pipeline.events.findings import Finding
from pipeline.preprocess.recipe import Recipe
from pipeline.preprocess.statistics.column_statistics import NumberColumn
from pipeline.preprocess.statistics.statistics import Statistics


def statistics_findings(statistics: Statistics, recipe: Recipe, target: Target) -> tuple[Finding, ...]:
    """Findings from the statistics of all training rows; `recipe`: the fitted recipe."""
    columns = [found for name in statistics.columns for found in _counting(name, statistics, recipe)]
    return (*columns, *_rare_classes(statistics, target))


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
