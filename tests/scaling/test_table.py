"""The terminal's table of a scaling run."""

import dataclasses

from pipeline.scaling.table import table
from tests.scaling.examples import configuration, point, result


def row(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_measured_and_predicted_are_shown_together() -> None:
    shown = table(result(point(configuration(2), slower=1.25)))
    assert shown.splitlines()[0] == "rows <of> an example"
    head = row(shown, "  ").split()
    assert head.index("GE") < head.index("PE") < head.index("E") < head.index("T")
    assert " 0.78 " in row(shown, "strong, 2 workers x 1")  # predicted over measured: 1 / (1.25 * 1.02)
    assert "a single process without a cluster, 2 threads: 20.00 ms a round" in shown


def test_every_line_of_the_table_is_as_long_as_its_head() -> None:
    lines = table(result()).splitlines()[2:-1]
    assert len({len(line.rstrip()) for line in lines[:1] + lines[2:]}) == 1  # the second head has fewer columns


def test_what_has_no_value_says_so() -> None:
    one = point(configuration(1))
    shown = table(result(dataclasses.replace(one, predicted=None), single_seconds=None))
    cells = row(shown, "strong, 1 worker x 1").split()
    assert cells.count("-") >= 5  # GE, predictions, E and J of one worker, ratio


def test_oversubscribed_points_are_marked() -> None:
    crowded = point(configuration(4))
    crowded = dataclasses.replace(
        crowded, configuration=dataclasses.replace(crowded.configuration, oversubscribed=True)
    )
    assert row(table(result(crowded)), "strong, 4").rstrip().endswith("oversubscribed")
