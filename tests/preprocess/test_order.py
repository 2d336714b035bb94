"""Row numbers and ids in the order of the rows: found for any layout, left out unless the job wants them."""

import functools
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.job import Column, Preprocess
from pipeline.errors import DataError
from pipeline.preprocess.findings import statistics_findings
from pipeline.preprocess.order import KEPT_HASHES, Distinct, Order, collect_order, merge_orders
from pipeline.preprocess.recipe import Recipe, fit_recipe
from pipeline.preprocess.statistics.collect import collect, merge

ROWS = 3_000
RNG = np.random.default_rng(0)
COUNTED = np.arange(1, ROWS + 1)
NOISE = RNG.normal(size=ROWS)
EVERY_HOUR = 1_700_000_000 + 3_600 * np.arange(ROWS)
DAYS = [int(f"{day:%Y%m%d}") for day in np.arange("2010-01-01", "2018-03-20", dtype="M8[D]").astype(object)][:ROWS]


def recipe_of(columns: dict[str, Any], make_rows: Any, binary: Any, **settings: Any) -> tuple[Recipe, list[Any]]:
    """The recipe of fragments of 1,000 rows, and what was found."""
    table, preprocess = pa.table(columns), Preprocess(columns=settings)
    parts = [
        collect(make_rows(table.slice(low, 1_000), None, low), preprocess, binary)
        for low in range(0, len(table), 1_000)
    ]
    statistics = functools.reduce(merge, parts)
    recipe = fit_recipe(statistics, preprocess, binary)
    return recipe, list(statistics_findings(statistics, recipe, binary))


def shuffled(values: Any, share: float) -> np.ndarray:
    """With a share of the values put elsewhere."""
    values = np.array(values)
    places = RNG.choice(len(values), int(share * len(values)), replace=False)
    values[places] = values[np.roll(places, 1)]
    return values


LEFT_OUT = {
    "a row number": COUNTED,
    "falling": COUNTED[::-1],
    "an id with gaps": np.cumsum(RNG.integers(1, 9, ROWS)),
    "unsigned": COUNTED.astype(np.uint64),
    "beyond float64's exact integers": 2**60 + COUNTED,
    "of pandas, one missing": pa.array([None, *COUNTED[1:].astype(float).tolist()], pa.float64()),
    "a few out of order": shuffled(COUNTED, 0.004),
    "files in the order of their names": np.concatenate([COUNTED[2_000:], COUNTED[:2_000]]),
}
KEPT = {
    "unique, in no order": RNG.permutation(COUNTED),
    "a location's id": RNG.integers(1, 266, ROWS),
    "in order, each twice": COUNTED // 2,
    "a row number within each file": COUNTED % 1_000,
    "too many out of order": shuffled(COUNTED, 0.05),
    "in order, no whole numbers": np.sort(NOISE),
    "a year": np.sort(RNG.integers(1990, 2020, ROWS)),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_row_number_is_left_out_and_reported(name: str, make_rows: Any, binary: Any) -> None:
    recipe, (finding,) = recipe_of({"id": LEFT_OUT[name], "x": NOISE}, make_rows, binary)
    assert recipe.columns == ("x",)
    assert recipe.dropped == {"id": "row number"}
    assert recipe.notes == ()
    assert (finding.kind, finding.column, finding.setting) == ("row_number", "id", "preprocess.columns.id.kind")
    assert finding.count >= ROWS - 1
    assert 'preprocess.columns.id.kind = "number" keeps it' in finding.message


@pytest.mark.parametrize("name", KEPT)
def test_other_numbers_are_features(name: str, make_rows: Any, binary: Any) -> None:
    recipe, found = recipe_of({"id": KEPT[name], "x": NOISE}, make_rows, binary)
    assert recipe.columns == ("id", "x")
    assert found == []


def test_a_name_alone_is_never_a_reason(make_rows: Any, binary: Any) -> None:
    names = ("id", "rownames", "index", "Unnamed: 0")
    recipe, found = recipe_of({name: RNG.integers(0, 200, ROWS) for name in names}, make_rows, binary)
    assert recipe.columns == names
    assert found == []


def test_fewer_than_1000_rows_are_too_few_to_tell(make_rows: Any, binary: Any) -> None:
    few = {"id": COUNTED[:999], "x": NOISE[:999]}
    assert recipe_of(few, make_rows, binary)[0].columns == ("id", "x")


def test_kind_number_keeps_it_without_a_word(make_rows: Any, binary: Any) -> None:
    recipe, found = recipe_of({"id": COUNTED, "x": NOISE}, make_rows, binary, id=Column(kind="number"))
    assert recipe.columns == ("id", "x")
    assert found == []


def test_a_row_number_alone_is_kept_with_a_finding(make_rows: Any, binary: Any) -> None:
    recipe, (finding,) = recipe_of({"id": COUNTED}, make_rows, binary)
    assert recipe.columns == ("id",)
    assert "kept as there is no other feature" in finding.message
    with pytest.raises(DataError, match="no feature is left"):
        recipe_of({"id": np.ones(ROWS)}, make_rows, binary)


@pytest.mark.parametrize(
    "values", [EVERY_HOUR, EVERY_HOUR * 1_000, EVERY_HOUR * 10**6, DAYS], ids=["s", "ms", "us", "date"]
)
def test_a_clock_is_kept_with_a_finding(values: Any, make_rows: Any, binary: Any) -> None:
    recipe, (finding,) = recipe_of({"when": values, "x": NOISE[: len(values)]}, make_rows, binary)
    assert recipe.columns == ("when", "x")
    assert (finding.kind, finding.column) == ("clock", "when")
    assert recipe_of({"when": values, "x": NOISE}, make_rows, binary, when=Column(kind="number"))[1] == []


@given(st.lists(st.integers(0, 5), max_size=60), st.lists(st.integers(0, 60), max_size=5).map(sorted), st.booleans())
def test_orders_merge_for_any_layout(steps: list[int], cuts: list[int], holes: bool) -> None:
    values = [None if holes and step == 5 else int(value) for step, value in zip(steps, np.cumsum(steps), strict=True)]
    column = pa.chunked_array([pa.array(values, pa.int64())])
    ends = [0, *[min(cut, len(values)) for cut in cuts], len(values)]
    parts = [collect_order(column.slice(low, high - low), Column()) for low, high in itertools.pairwise(ends)]
    whole, merged = collect_order(column, Column()), functools.reduce(merge_orders, parts)
    assert whole is None or merged == whole
    if whole is not None and merged is not None:
        assert merged.distinct.share == whole.distinct.share
        known = [value for value in values if value is not None]
        assert whole.distinct.share == (len(set(known)) / len(known) if known else 0)


def test_distinct_values_take_bounded_memory_and_are_exact_to_a_third_of_a_percent() -> None:
    values = np.concatenate([np.arange(40_000), np.arange(4_000)])
    found = functools.reduce(Distinct.merge, [Distinct.of(part) for part in np.array_split(values, 13)])
    assert len(found.hashes) == KEPT_HASHES
    assert found.share == pytest.approx(40_000 / 44_000, abs=0.02)
    assert np.array_equal(found.hashes, Distinct.of(values).hashes)
    assert np.array_equal(found.rows, Distinct.of(values).rows)


def test_nothing_but_missing_values_has_an_order() -> None:
    assert collect_order(pa.chunked_array([pa.array([None, None], pa.int64())]), Column()) == Order()
    assert collect_order(pa.chunked_array([pa.array([0.5, 1.0])]), Column()) is None
