"""A recipe applied: one row as a million, one type as another, one namespace as another, and no label leaks."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.job import Preprocess
from pipeline.data.schema.target import Target
from pipeline.errors import DataError
from pipeline.preprocess.apply import feature_columns, matrix
from pipeline.preprocess.recipe import Recipe, fit_recipe
from pipeline.preprocess.statistics.collect import collect, fold_of

ROWS = 2_000
SPEC = Preprocess.model_validate(
    {
        "columns": {
            "shaped": {"impute": "mean", "indicator": True, "clip": [-1, 1], "log1p": True, "standardise": True},
            "often": {"encoding": "frequency"},
            "hashed": {"encoding": "hash"},
            "number as word": {"kind": "category"},
        },
        "min_count": 2,
    }
)


def _table() -> pa.Table:
    rng = np.random.default_rng(0)

    def holes():
        return rng.random(ROWS) < 0.1

    words = np.array([f"word {i}" for i in rng.integers(0, 400, ROWS)])
    return pa.table(
        {
            "plain": pa.array(rng.normal(size=ROWS).astype(np.float32), mask=holes()),
            "whole": pa.array(rng.integers(0, 100, ROWS), mask=holes()),
            "flag": pa.array(rng.random(ROWS) < 0.5, mask=holes()),
            "shaped": pa.array(rng.normal(size=ROWS), mask=holes()),
            "few": pa.array(rng.choice(["a", "b", "c"], ROWS), mask=holes()),
            "number as word": pa.array(rng.integers(0, 9, ROWS), mask=holes()),
            "many": pa.array(words, mask=holes()),
            "often": pa.array(words, mask=holes()),
            "hashed": pa.array(words, mask=holes()),
            "when": pa.array(
                np.datetime64("2013-01-01T00", "s") + rng.integers(0, 400 * 86_400, ROWS).astype("timedelta64[s]"),
                mask=holes(),
            ),
        }
    )


TABLE = _table()


@pytest.fixture(scope="session")
def recipe(make_rows, binary):
    return fit_recipe(collect(make_rows(TABLE), SPEC, binary), SPEC, binary)


@pytest.fixture(scope="session")
def block(recipe):
    return matrix(recipe, TABLE)


def test_every_namespace_makes_the_same_block(recipe, block, space):
    got = space.show(matrix(recipe, TABLE, xp=space.xp))
    assert got.dtype == np.float32
    assert got.shape == (ROWS, len(recipe.features))
    np.testing.assert_allclose(got, block, rtol=1e-6)
    for column in feature_columns(recipe, TABLE, xp=space.xp):
        assert space.show(column).dtype == np.float32


def test_the_block_is_in_row_order(recipe, block):
    assert block.flags.c_contiguous
    for place, column in enumerate(feature_columns(recipe, TABLE)):
        np.testing.assert_array_equal(column, block[:, place])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, ROWS - 1), st.integers(1, 30))
def test_one_row_is_as_among_many(recipe, block, start, count):
    rows = TABLE.slice(start, count)
    np.testing.assert_array_equal(matrix(recipe, rows), block[start : start + count])
    copied = pa.Table.from_pylist(rows.to_pylist(), schema=TABLE.schema)
    np.testing.assert_array_equal(matrix(recipe, copied), block[start : start + count])


def test_no_rows(recipe):
    assert matrix(recipe, TABLE.slice(0, 0)).shape == (0, len(recipe.features))


def _retyped(**types):
    columns = {name: TABLE[name].cast(types[name]) if name in types else TABLE[name] for name in TABLE.column_names}
    return pa.table(columns)


def test_harmless_types_make_the_same_block(recipe, block):
    wider = _retyped(
        plain=pa.float64(),
        whole=pa.int32(),
        flag=pa.int8(),
        few=pa.large_string(),
        many=pa.string_view(),
        when=pa.timestamp("ns", "UTC"),
        **{"number as word": pa.float64()},
    )
    np.testing.assert_array_equal(matrix(recipe, wider), block)
    coded = pa.table({name: TABLE[name].dictionary_encode() for name in TABLE.column_names})
    np.testing.assert_array_equal(matrix(recipe, coded), block)
    pieces = [
        [TABLE[name].slice(at, 700).combine_chunks().dictionary_encode() for at in (0, 700, 1_400)]
        for name in TABLE.column_names
    ]
    chunked = pa.table(
        {name: pa.chunked_array(chunks) for name, chunks in zip(TABLE.column_names, pieces, strict=True)}
    )
    np.testing.assert_array_equal(matrix(recipe, chunked), block)
    decimal = _retyped(whole=pa.decimal128(25, 2))
    np.testing.assert_array_equal(matrix(recipe, decimal), block)


def test_columns_of_nothing(recipe):
    nothing = pa.table({name: pa.nulls(3) for name in TABLE.column_names})
    typed = pa.table({name: pa.nulls(3, TABLE[name].type) for name in TABLE.column_names})
    got = matrix(recipe, nothing)
    np.testing.assert_array_equal(got, matrix(recipe, typed))
    filled = {name for name, column in zip(recipe.names, got.T, strict=True) if not np.isnan(column).any()}
    assert filled == {"shaped", "shaped.missing"}


def test_missing_column_and_wrong_type(recipe):
    with pytest.raises(DataError, match="the column 'few', which the model needs, is missing"):
        matrix(recipe, TABLE.drop_columns("few"))
    words = TABLE.set_column(0, "plain", pa.array(["secret"] * ROWS))
    with pytest.raises(DataError, match="'plain' holds values that cannot be read as numbers") as error:
        matrix(recipe, words)
    assert "secret" not in str(error.value)


def test_plain_columns_are_not_copied(make_rows, binary):
    table = pa.table({"x": pa.array([1.0, 2.0, 3.0], pa.float32())})
    recipe = fit_recipe(collect(make_rows(table), SPEC_PLAIN, binary), SPEC_PLAIN, binary)
    (column,) = feature_columns(recipe, table)
    assert np.shares_memory(column, table["x"].chunk(0).to_numpy())


SPEC_PLAIN = Preprocess()


def test_levels_not_seen(recipe):
    names = list(recipe.names)
    one = TABLE.slice(0, 1)
    for name in ("few", "many", "often", "hashed", "number as word"):
        word = pa.array([12345]) if name == "number as word" else pa.array(["never seen"])
        one = one.set_column(TABLE.column_names.index(name), name, word)
    got = dict(zip(names, matrix(recipe, one)[0], strict=True))
    assert np.isnan(got["few"])
    assert np.isnan(got["number as word"])
    assert got["many"] == np.float32(recipe.features[names.index("many")].prior)
    assert got["often"] == 0
    assert 0 <= got["hashed"] < 254


def test_codes_frequencies_and_hashes(make_rows, binary):
    table = pa.table({"c": ["b", "a", None, "b"], "f": ["b", "a", None, "b"], "h": ["b", "a", None, "b"]})
    spec = Preprocess.model_validate({"columns": {"f": {"encoding": "frequency"}, "h": {"encoding": "hash"}}})
    recipe = fit_recipe(collect(make_rows(table), spec, binary), spec, binary)
    codes, shares, hashes = feature_columns(recipe, table)
    np.testing.assert_array_equal(codes, [1, 0, np.nan, 1])
    np.testing.assert_array_equal(shares, [0.5, 0.25, np.nan, 0.5])
    # CRC-32 of "b" and "a", modulo 254: fixed for ever, models depend on it
    np.testing.assert_array_equal(hashes, [0x71BEEFF9 % 254, 0xE8B7BE43 % 254, np.nan, 0x71BEEFF9 % 254])


def test_times_keep_their_precision(make_rows, binary):
    start = dt.datetime(2023, 5, 1)
    table = pa.table({"t": [start + dt.timedelta(minutes=i) for i in range(3_000)]})
    recipe = fit_recipe(collect(make_rows(table), SPEC_PLAIN, binary), SPEC_PLAIN, binary)
    columns = dict(zip(recipe.names, feature_columns(recipe, table), strict=True))
    np.testing.assert_allclose(columns["t.epoch"], np.arange(3_000) / 1_440, rtol=1e-6)
    assert len(np.unique(columns["t.epoch"])) == 3_000
    np.testing.assert_array_equal(columns["t.hour"][:61], [0] * 60 + [1])


def _encoded(make_rows, label, words, target, smoothing=20.0):
    spec = Preprocess.model_validate({"columns": {"c": {"encoding": "target"}}, "smoothing": smoothing})
    rows = make_rows({"c": words}, label)
    recipe = fit_recipe(collect(rows, spec, target, seed=7), spec, target)
    return rows, recipe, list(feature_columns(recipe, rows.table, fold_keys=rows.fold_key))


def test_out_of_fold_encodings_are_those_of_the_other_folds(make_rows, binary):
    rng = np.random.default_rng(1)
    words, label = rng.choice(["a", "b", "c", "d"], 500), rng.random(500) < 0.4
    rows, recipe, (got,) = _encoded(make_rows, label, words, binary)
    folds = fold_of(rows.fold_key, 5, 7)
    prior = label.mean()
    for place in range(500):
        others = (words == words[place]) & (folds != folds[place])
        expected = (label[others].sum() + 20 * prior) / (others.sum() + 20)
        assert got[place] == pytest.approx(expected, rel=1e-6)
    final = next(feature_columns(recipe, rows.table))
    for word in "abcd":
        mine = words == word
        assert final[mine] == pytest.approx((label[mine].sum() + 20 * prior) / (mine.sum() + 20), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 20.0])
def test_a_random_target_on_unique_levels_gives_no_signal(make_rows, binary, smoothing):
    rng = np.random.default_rng(2)
    label = rng.random(5_000) < 0.5
    words = [f"row {i}" for i in range(5_000)]
    rows, recipe, (got,) = _encoded(make_rows, label, words, binary, smoothing)
    assert len(np.unique(got)) == 1  # the prior, whatever the label
    leaking = next(feature_columns(recipe, rows.table))  # what prediction would get: the label itself
    assert np.corrcoef(leaking, label)[0, 1] > 0.99
    few = [f"level {i}" for i in rng.integers(0, 1_000, 5_000)]
    _, _, (got,) = _encoded(make_rows, label, few, binary, smoothing)
    assert np.corrcoef(got, label)[0, 1] < 0.05


def test_encodings_by_class_and_of_numbers(make_rows):
    rng = np.random.default_rng(3)
    words, label = rng.choice(["a", "b"], 300), rng.integers(0, 3, 300)
    three = Target("y", "multiclass", "multi:softprob", ("p", "q", "r"))
    _, _, shares = _encoded(make_rows, label, words, three)
    np.testing.assert_allclose(sum(shares), 1, rtol=1e-5)
    number = Target("y", "regression", "reg:squarederror")
    rows, recipe, _ = _encoded(make_rows, label, words, number, smoothing=0)
    assert next(feature_columns(recipe, rows.table))[words == "a"] == pytest.approx(label[words == "a"].mean())


def test_a_recipe_from_json_has_no_out_of_fold_encodings(make_rows, binary):
    rows, recipe, _ = _encoded(make_rows, [0, 1, 0], ["a", "b", "a"], binary)
    back = Recipe.from_json(recipe.to_json())
    with pytest.raises(ValueError, match="out-of-fold"):
        next(feature_columns(back, rows.table, fold_keys=rows.fold_key))
