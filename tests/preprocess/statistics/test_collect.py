"""Statistics of fragments, merged: what one pass over everything would give, whatever the fragments."""

import dataclasses
import functools
import itertools
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.job import Preprocess
from pipeline.data.schema.target import Target
from pipeline.errors import DataError, JobError
from pipeline.planning.job_size import bounded_sample
from pipeline.preprocess.statistics.collect import collect, merge
from pipeline.preprocess.statistics.moments import Moments, summarise

CUTS = st.lists(st.integers(0, 60), max_size=4).map(sorted)
NUMBERS = st.one_of(st.floats(-1e6, 1e6, width=32), st.sampled_from([None, np.nan, np.inf, -np.inf]))
TREES = st.sampled_from(["from the left", "from the right", "in pairs"])


def _merged(parts, tree="from the left"):
    if tree == "from the left":
        return functools.reduce(merge, parts)
    if tree == "from the right":
        return functools.reduce(lambda right, left: merge(left, right), reversed(parts))
    while len(parts) > 1:
        parts = [functools.reduce(merge, parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return parts[0]


def _split(table, cuts):
    ends = [0, *[min(cut, table.num_rows) for cut in cuts], table.num_rows]
    return [(low, table.slice(low, high - low)) for low, high in itertools.pairwise(ends)]


@given(st.lists(NUMBERS, min_size=1, max_size=60), CUTS, TREES)
def test_numbers_merge(make_rows, binary, values, cuts, tree):
    table = pa.table({"x": pa.array(values, pa.float32())})
    parts = []
    for fragment, (low, piece) in enumerate(_split(table, cuts)):
        parts.append(collect(make_rows(piece, np.arange(low, low + len(piece)) % 2, fragment), Preprocess(), binary))
    whole, got = collect(make_rows(table), Preprocess(), binary), _merged(parts, tree)
    assert got.rows == whole.rows == len(values)
    assert got.class_counts == whole.class_counts
    a, b = got.columns["x"], whole.columns["x"]
    for exact in ("missing", "low", "high", "infinite"):
        assert getattr(a, exact) == getattr(b, exact), exact
    assert a.moments.count == b.moments.count
    assert a.moments.mean == pytest.approx(b.moments.mean, rel=1e-12, abs=1e-7)
    assert a.moments.m2 == pytest.approx(b.moments.m2, rel=1e-9, abs=1e-5)
    plain = np.array([value for value in values if value is not None and np.isfinite(value)])
    if len(plain):
        assert (b.low, b.high) == (plain.min(), plain.max())
        assert b.moments.deviation == pytest.approx(plain.std(), rel=1e-9, abs=1e-6)


@given(st.lists(st.sampled_from("abcdefgh") | st.none(), min_size=1, max_size=60), CUTS, TREES)
def test_levels_merge_exactly(make_rows, binary, values, cuts, tree):
    table = pa.table({"x": pa.array(values, pa.string())})
    label = np.arange(len(values)) // 3 % 2
    pieces = _split(table, cuts)
    whole = make_rows(table, label)
    parts = []
    for low, piece in pieces:
        rows = make_rows(piece, label[low : low + len(piece)])
        keys = whole.row_ids[low : low + len(piece)]  # so that the folds are those of the whole
        parts.append(collect(dataclasses.replace(rows, row_ids=keys, fold_key=keys), Preprocess(), binary))
    got, expected = _merged(parts, tree).columns["x"], collect(whole, Preprocess(), binary).columns["x"]
    assert got.missing == expected.missing == values.count(None)
    assert got.counts.levels.equals(expected.counts.levels)  # in the order of appearance
    np.testing.assert_array_equal(got.counts.rows, expected.counts.rows)
    np.testing.assert_array_equal(got.counts.fold_rows, expected.counts.fold_rows)
    np.testing.assert_array_equal(got.counts.sums, expected.counts.sums)
    assert got.counts.sums.sum() == sum(label[i] for i, value in enumerate(values) if value is not None)


@settings(max_examples=30)
@given(CUTS, TREES, st.integers(0, 3))
def test_times_merge_exactly(make_rows, binary, cuts, tree, step):
    days = np.array([18_000 + step * (i // 7) for i in range(40)], dtype="datetime64[D]")
    table = pa.table({"t": pa.array(days, mask=np.arange(40) % 5 == 0)})
    parts = [collect(make_rows(piece), Preprocess(), binary) for _, piece in _split(table, cuts)]
    assert _merged(parts, tree).columns["t"] == collect(make_rows(table), Preprocess(), binary).columns["t"]


def test_constant_parts_of_times(make_rows, binary):
    days = np.arange("2013-02-01", "2013-03-01", dtype="datetime64[D]")
    column = collect(make_rows({"t": pa.array(days)}), Preprocess(), binary).columns["t"]
    varying = {part for part, value in column.parts.items() if value is None}
    assert varying == {"day", "weekday", "dayofyear", "epoch"}
    assert column.parts["year"] == 2013
    assert column.parts["month"] == 2


def test_a_part_that_varies_late(make_rows, binary):
    seconds = np.zeros(5_000, dtype="datetime64[s]")
    seconds[-1] += np.timedelta64(1, "h")
    column = collect(make_rows({"t": pa.array(seconds)}), Preprocess(), binary).columns["t"]
    assert {part for part, value in column.parts.items() if value is None} == {"hour", "epoch"}


def test_moments_are_stable():
    rng = np.random.default_rng(0)
    values = 1e9 + rng.normal(size=100_000)
    got = summarise(values).moments
    assert got.mean == pytest.approx(values.mean(), rel=1e-15)
    assert got.deviation == pytest.approx(values.std(), rel=1e-9)
    merged = functools.reduce(Moments.merge, [summarise(part).moments for part in np.array_split(values, 37)])
    assert merged.deviation == pytest.approx(values.std(), rel=1e-9)


def test_only_training_rows_count(make_rows, binary):
    rows = make_rows(
        {"x": pa.array([1.0, 50.0, 3.0, np.inf]), "c": ["a", "b", "a", "c"]},
        label=[1, 0, 1, 0],
        weight=[0.5, 9, 2, 9],
        use=[0, 1, 0, 1],
        dropped={"label missing": 3},
    )
    got = collect(rows, Preprocess(), binary)
    assert (got.rows, got.validation_rows) == (2, 2)
    assert got.dropped == {"label missing": 3}
    assert (got.columns["x"].low, got.columns["x"].high, got.columns["x"].infinite) == (1.0, 3.0, 0)
    assert got.columns["c"].counts.levels.to_pylist() == ["a"]
    assert got.class_counts == (0, 2)
    assert got.label.class_weights == (0.0, 2.5)
    assert (got.label.weight_sum, got.label.weighted_sum) == (2.5, 2.5)
    assert got.sample.row_ids.tolist() == [0, 2]
    assert got.sample.table["x"].to_pylist() == [1.0, 3.0]
    assert got.sample.weight.tolist() == [0.5, 2.0]


def test_fragments_without_training_rows_merge(make_rows, binary):
    columns = {"x": pa.array([1.0, 2.0]), "c": ["a", "b"], "t": np.array([0, 9], dtype="datetime64[D]")}
    empty = collect(make_rows(columns, use=[1, 1]), Preprocess(), binary)
    full = collect(make_rows(columns, fragment=1), Preprocess(), binary)
    for got in (merge(empty, full), merge(full, empty)):
        assert (got.rows, got.validation_rows) == (2, 2)
        assert got.columns["x"] == full.columns["x"]
        assert got.columns["t"] == full.columns["t"]
        assert got.columns["c"].counts.rows.tolist() == [1, 1]
        assert got.sample.table.equals(full.sample.table)


def test_files_that_only_validate_may_have_other_types(make_rows, binary):
    train = collect(make_rows({"x": pa.array([1, 2]), "c": ["a", "b"]}), Preprocess(), binary)
    other = make_rows({"x": pa.array([1.5]), "c": pa.array(["z"]).dictionary_encode()}, fragment=1, use=[1])
    validation = collect(other, Preprocess(), binary)
    got = merge(train, validation)
    assert got.columns is train.columns
    assert (got.rows, got.validation_rows) == (2, 1)
    assert got.sample.table.equals(train.sample.table)


def test_the_first_infinite_value_is_named_by_row_id(make_rows, binary):
    finite = collect(make_rows({"x": pa.array([1.0, 2.0])}), Preprocess(), binary)
    bad = collect(make_rows({"x": pa.array([1.0, None, -np.inf, 1e300])}, fragment=1), Preprocess(), binary)
    column = merge(merge(finite, bad), bad).columns["x"]
    assert column.infinite == 4
    assert column.first_infinite == (1 << 40) | 2


def test_bounded_levels_keep_the_frequent_ones(make_rows, binary):
    spec = Preprocess(tracked_levels=254)
    parts = []
    for fragment in range(4):
        names = ["often"] * 5 + ["sometimes"] * 2 + [f"rare {fragment}.{i}" for i in range(400)]
        parts.append(collect(make_rows({"c": names}, fragment=fragment), spec, binary))
    counts = _merged(parts).columns["c"].counts
    assert len(counts.levels) == 254
    assert counts.levels.to_pylist()[:2] == ["often", "sometimes"]
    assert counts.rows[:2].tolist() == [20, 8]
    assert counts.rows.sum() + counts.left_out == 4 * 407
    np.testing.assert_array_equal(counts.fold_rows.sum(1), counts.rows)
    assert _merged(parts).columns["c"].missing == 0


def test_sums_by_class_and_for_numbers(make_rows):
    rows = make_rows({"c": ["a", "b", "a", None]}, label=[0, 1, 2, 2])
    three = collect(rows, Preprocess(), Target("y", "multiclass", "multi:softprob", ("p", "q", "r")))
    counts = three.columns["c"].counts
    assert counts.sums.sum(1).tolist() == [[1, 0, 1], [0, 1, 0]]
    assert three.class_counts == (1, 1, 2)
    number = collect(rows, Preprocess(), Target("y", "regression", "reg:squarederror"))
    assert number.columns["c"].counts.sums.sum(1).tolist() == [[2], [1]]
    assert number.label.moments.mean == 1.25
    assert number.class_counts == ()
    many = collect(rows, Preprocess(), Target("y", "multiclass", "multi:softprob", tuple(range(11))))
    assert many.columns["c"].counts.sums is None


def test_statistics_travel(make_rows, binary):
    got = collect(make_rows({"x": pa.array([1.0, 2.0]), "c": ["a", "b"]}), Preprocess(), binary)
    back = pickle.loads(pickle.dumps(got))
    assert back.columns["x"] == got.columns["x"]
    assert back.sample.table.equals(got.sample.table)
    assert got.without_sample().samples is None


@pytest.mark.parametrize(
    ("columns", "error", "text"),
    [
        ({"distnce": {}}, JobError, "'distnce' fits no feature; did you mean 'distance'"),
        ({"zz*": {}}, JobError, r"'zz\*' fits no feature"),
        ({"distance": {"clip": [5, 1]}}, JobError, r"distance.clip = \[5.0, 1.0\]"),
        ({"carrier": {"log1p": True}}, JobError, "carrier.log1p: is for a number; this column is a category"),
        ({"carrier": {"kind": "number"}}, DataError, "'carrier' holds values that cannot be read as numbers"),
        ({"distance": {"kind": "time"}}, DataError, "'distance' is double, no date"),
        ({"day": {"kind": "number"}}, DataError, "'day' is date32"),
    ],
)
def test_options_that_do_not_fit(make_rows, binary, columns, error, text):
    table = {"distance": pa.array([1.0, 2.0]), "carrier": ["AA", "UA"], "day": np.zeros(2, dtype="datetime64[D]")}
    with pytest.raises(error, match=text):
        collect(make_rows(table), Preprocess.model_validate({"columns": columns}), binary)


def test_a_type_that_no_feature_can_be_made_of(make_rows, binary):
    table = {"blob": pa.array([b"x"])}
    with pytest.raises(DataError, match=r"'blob' is binary.*data\.exclude"):
        collect(make_rows(table), Preprocess(), binary)
    spec = Preprocess.model_validate({"columns": {"bl?b": {"kind": "drop"}}})
    assert collect(make_rows(table), spec, binary).columns == {}


@pytest.mark.parametrize(("columns", "rows"), [(28, 262_144), (10_000, 26_843), (100_000, 16_384)])
def test_the_sample_of_wide_tables_is_bounded(columns: int, rows: int) -> None:
    assert bounded_sample(262_144, columns) == rows
