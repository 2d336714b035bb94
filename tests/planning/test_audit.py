"""Audits: what earlier runs say of a later one."""

import dataclasses
import json
import math

import pytest

from pipeline.planning.audit import (
    LEAST_SECONDS,
    Accuracy,
    AuditLine,
    RunMeasurements,
    accuracy,
    correction,
    kind_of,
    ratios_of,
)
from pipeline.planning.forecast import Correction, MeasuredTrees, forecast
from pipeline.planning.job_size import SizeFacts
from tests.planning.test_forecast import FACTS, ONE, SIZE

LINE = AuditLine(
    machine="m", kind="k", cpu={"rounds": math.log(2)}, wall={"survey": 0.0}, rss={"rounds": (300e6, 330e6)}, trees=MeasuredTrees(80.0, 1_000, 10, 6, 0, "depthwise"),
    facts=SizeFacts(6, 600, 3, 0.9, 0.2, missing=True), planned={"cpu": (10.0, 8.0, 12.0, 11.0)},
)  # fmt: skip


def test_8_the_correction_is_shrunken_by_the_number_of_runs() -> None:
    for runs in (1, 3, 8):
        found = correction([LINE] * runs, "m", "other")
        assert found.cpu["rounds"] == pytest.approx(2 ** (runs / (runs + 2)))
        assert found.trees is None  # trees are those of other data
        assert found.rss_offset_nbytes["rounds"] == pytest.approx(30e6 * runs / (runs + 2))
        assert found.rss == {}


def test_runs_of_the_same_kind_count_beyond_the_machines() -> None:
    other = dataclasses.replace(LINE, kind="other", cpu={"rounds": 0.0})
    found = correction([other] * 6 + [LINE] * 6, "m", "k")
    common = math.log(2) / 2 * 12 / 14
    assert math.log(found.cpu["rounds"]) == pytest.approx(common + (math.log(2) - common) * 6 / 8)
    offset = 30e6 * 12 / 14
    assert math.log(found.rss["rounds"]) == pytest.approx(math.log(330e6 / (300e6 + offset)) * 6 / 8)
    assert found.trees == LINE.trees
    assert found.facts == LINE.facts
    known = SizeFacts(6, 600, 3, 0.9, None, missing=False).applied_to(SIZE)
    assert (known.rows, known.validation_rows, known.trees) == (900_000, 90_000, 3)


def test_runs_on_other_machines_do_not_count() -> None:
    assert correction([LINE], "another", "k") == Correction()


def test_a_run_as_predicted_needs_no_correction() -> None:
    trees = Correction(trees=MeasuredTrees.of(SIZE, 90.0))
    made = forecast(SIZE, ONE, FACTS, trees)
    rss = {stage: made.memory.of(stage) for stage in made.memory.terms}
    found = ratios_of(SIZE, ONE, FACTS, RunMeasurements(made.cpu, made.wall, rss, 90.0))
    assert all(abs(ratio) < 1e-9 for ratio in (*found.cpu.values(), *found.wall.values()))
    assert all(predicted == measured for predicted, measured in found.rss.values())


def test_a_run_that_took_twice_as_long_says_so() -> None:
    trees = Correction(trees=MeasuredTrees.of(SIZE, 90.0))
    made = forecast(SIZE, ONE, FACTS, trees)
    rounds = made.cpu["rounds"]
    found = ratios_of(SIZE, ONE, FACTS, RunMeasurements({**made.cpu, "rounds": 2 * rounds}, made.wall, {}, 90.0))
    assert found.cpu["rounds"] == pytest.approx(math.log((2 * rounds + LEAST_SECONDS) / (rounds + LEAST_SECONDS)))


def test_a_line_survives_its_file() -> None:
    assert AuditLine.parse(LINE.render()) == LINE


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", '{"version": 1}', '{"version": 0, "machine": "m"}',
    json.dumps({"version": 1, **dataclasses.asdict(LINE), "cpu": {"rounds": "much"}}),
    json.dumps({"version": 1, **dataclasses.asdict(LINE), "cpu": {"rounds": None}}),
    json.dumps({"version": 1, **dataclasses.asdict(LINE), "cpu": [1]}),
    json.dumps({"version": 1, **dataclasses.asdict(LINE), "rss": {"rounds": 1.0}}),
    json.dumps({"version": 1, **dataclasses.asdict(LINE), "rss": {"rounds": [1.0, None]}}),
    json.dumps({"version": 1, **dataclasses.asdict(LINE), "planned": {"cpu": [1, 2]}}),
    json.dumps({"version": 1, **dataclasses.asdict(LINE), "facts": {"features": 6}}),
    json.dumps({"version": 1, **dataclasses.asdict(LINE), "path": "/home"}),
    LINE.render().replace("80.0", "NaN"),
])  # fmt: skip
def test_a_damaged_line_is_not_read(text: str) -> None:
    with pytest.raises(ValueError):
        AuditLine.parse(text)


def test_the_accuracy_of_plans() -> None:
    lines = [LINE, dataclasses.replace(LINE, planned={"cpu": (10.0, 8.0, 12.0, 15.0)})]
    assert accuracy(lines, "m") == {"cpu": Accuracy(2, pytest.approx(0.3), 0.5)}
    assert accuracy(lines, "another") == {}


def test_kinds_are_of_what_they_are_made_of() -> None:
    one = kind_of([("a", "double"), ("b", "string")], "y", "auto")
    assert one == kind_of([("a", "double"), ("b", "string")], "y", "auto")
    assert one != kind_of([("a", "float"), ("b", "string")], "y", "auto")
    assert len(one) == 12


def test_trees_of_another_depth_are_grown_to_this_ones() -> None:
    """A run at depth 6 does not make a plan for depth 12 smaller."""
    flat, deep = (dataclasses.replace(SIZE, depth=depth) for depth in (6, 12))
    full = forecast(flat, ONE, FACTS).memory.terms["rounds"]["histograms"]
    found = correction([dataclasses.replace(LINE, trees=MeasuredTrees.of(flat, 60.0))] * 3, "m", "k")
    made = forecast(deep, ONE, FACTS, dataclasses.replace(found, rss={}, rss_offset_nbytes={}))
    assert made.memory.terms["rounds"]["histograms"] > 5 * full


@pytest.mark.parametrize("changed", [
    {"rss": {"rounds": [1.0, 0.0]}}, {"rss": {"rounds": [-1.0, 5.0]}}, {"cpu": {"rounds": 1e6}},
    {"trees": {**dataclasses.asdict(LINE.trees), "rows": 10**400}}, {"trees": {**dataclasses.asdict(LINE.trees), "growth": "up"}},
    {"facts": {**dataclasses.asdict(LINE.facts), "missing": 3}}, {"facts": {**dataclasses.asdict(LINE.facts), "trees": -1}},
])  # fmt: skip
def test_a_line_of_impossible_numbers_is_not_read(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        AuditLine.parse(json.dumps({"version": 1, **dataclasses.asdict(LINE), **changed}))


def test_a_deeply_nested_line_is_not_read() -> None:
    with pytest.raises(ValueError):
        AuditLine.parse("[" * 200_000)
