"""Which features columns become, and the recipe as JSON."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.job import Preprocess
from pipeline.data.schema.target import Target
from pipeline.errors import DataError, JobError, ModelError
from pipeline.preprocess.apply import feature_columns
from pipeline.preprocess.features import (
    Category,
    Frequency,
    Hash,
    Indicator,
    Number,
    TargetEncoding,
    TimePart,
    feature_names,
)
from pipeline.preprocess.findings import statistics_findings
from pipeline.preprocess.recipe import FORMAT, VERSION, Recipe, fit_recipe
from pipeline.preprocess.statistics.collect import collect

MANY = [f"level {i % 300}" for i in range(1_200)]


@pytest.fixture(scope="session")
def fit(make_rows, binary):
    def fitted(table, label=None, target=binary, /, **spec):
        preprocess = Preprocess.model_validate(spec)
        return fit_recipe(collect(make_rows(table, label), preprocess, target), preprocess, target)

    return fitted


def test_by_type(fit):
    recipe = fit(
        {
            "number": pa.array([1.0, 2.0]),
            "whole": pa.array([1, None]),
            "flag": pa.array([True, False]),
            "word": ["b", "a"],
            "coded": pa.array(["z", None]).dictionary_encode(),
            "when": np.array(["2013-01-01T05:00", "2013-01-01T06:30"], dtype="datetime64[m]").astype("datetime64[us]"),
        }
    )
    assert recipe.names == ("number", "whole", "flag", "word", "coded", "when.hour", "when.minute", "when.epoch")
    assert recipe.kinds == ("q", "q", "q", "c", "c", "q", "q", "q")
    assert recipe.levels == (None, None, None, 2, 1, None, None, None)
    assert recipe.columns == ("number", "whole", "flag", "word", "coded", "when")
    assert recipe.features[3].levels.names == ("a", "b")
    assert not recipe.out_of_fold
    assert not recipe.dropped


def test_columns_without_information_are_dropped_and_reported_once(fit):
    recipe = fit(
        {
            "x": pa.array([1.0, 2.0]),
            "same": pa.array([5, 5]),
            "word": ["a", "a"],
            "day": np.zeros(2, dtype="datetime64[D]"),
            "none": pa.array([None, None], pa.float64()),
            "nan": pa.array([np.nan, np.nan]),
            "untyped": pa.nulls(2),
            "one or none": pa.array([5, None]),
            "word or none": ["a", None],
        }
    )
    assert recipe.names == ("x", "one or none", "word or none")
    assert recipe.dropped == {
        "same": "constant",
        "word": "constant",
        "day": "constant",
        "none": "missing",
        "nan": "missing",
        "untyped": "missing",
    }
    assert len(recipe.notes) == 1
    assert "same (constant), word (constant)" in recipe.notes[0]


def test_nothing_left(fit):
    with pytest.raises(DataError, match=r"no feature is left: .*x \(constant\)"):
        fit({"x": pa.array([1.0, 1.0])})
    with pytest.raises(DataError, match="there are no training rows"):
        fit({"x": pa.array([], pa.float32())})


def test_infinite_features_are_named(fit):
    with pytest.raises(DataError, match=r"'x' has 2 infinite values .*row id 1 \(fragment 0, row 1\)"):
        fit({"x": pa.array([1.0, np.inf, -np.inf])})
    clipped = fit({"x": pa.array([1.0, np.inf, -np.inf])}, columns={"x": {"clip": [0, 9]}})
    assert clipped.features[0].clip == (0, 9)


def test_options_of_numbers(fit):
    values = pa.array([1.0, 3.0, None, 100.0])
    options = {"impute": "mean", "indicator": True, "clip": [0, 7], "log1p": True, "standardise": True}
    number, missing = fit({"price": values, "y": values}, columns={"pri*": options, "y": {"kind": "drop"}}).features
    shaped = np.log1p([1, 3, 7])
    assert number.impute == pytest.approx(104 / 3)
    assert number.standardise == pytest.approx((shaped.mean(), shaped.std()))
    assert missing == Indicator(name="price.missing", column="price")


def test_an_exact_name_wins_over_a_pattern(fit):
    values = pa.array([1.0, 3.0])
    recipe = fit({"a": values, "ab": values}, columns={"a*": {"log1p": True}, "a": {"impute": 5}})
    assert recipe.features == (Number(name="a", column="a", impute=5), Number(name="ab", column="ab", log1p=True))


def test_high_cardinality(fit):
    for option, kind in (("target", TargetEncoding), ("frequency", Frequency), ("hash", Hash)):
        recipe = fit({"c": MANY}, high_cardinality=option)
        assert [type(feature) for feature in recipe.features] == [kind]
        assert recipe.out_of_fold == ({0} if option == "target" else set())
    assert fit({"c": MANY}, high_cardinality="hash", hash_bins=16).levels == (16,)
    assert type(fit({"c": MANY}, columns={"c": {"encoding": "hash"}}).features[0]) is Hash
    assert type(fit({"c": ["a", "b"]}, columns={"c": {"encoding": "target"}}).features[0]) is TargetEncoding


def test_codes_beyond_max_levels_keep_the_frequent_ones(fit):
    words = ["x"] * 3 + ["y"] * 2 + ["a", "b"]
    recipe = fit({"c": words}, columns={"c": {"encoding": "codes"}}, max_levels=2)
    assert recipe.features[0].levels.names == ("x", "y")
    assert recipe.notes == ("column 'c': 2 levels beyond max_levels count as missing",)


def test_rare_levels_count_as_missing(fit):
    recipe = fit({"c": ["x"] * 3 + ["y"] * 2 + ["a", "b"]}, min_count=2)
    assert recipe.features == (Category(name="c", column="c", levels=recipe.features[0].levels),)
    assert recipe.features[0].levels.names == ("x", "y")
    assert fit({"x": [1.0, 2.0], "c": ["a", "b"]}, min_count=2).dropped == {"c": "no level in 2 rows"}


def test_more_levels_than_tracked(fit):
    recipe = fit({"c": MANY}, tracked_levels=254, max_levels=254)
    assert type(recipe.features[0]) is TargetEncoding
    assert len(recipe.features[0].levels) == 254
    assert "more than 254 levels" in recipe.notes[0]
    assert "184 rows" in recipe.notes[0]


def test_target_encodings_by_class(fit):
    three = Target("y", "multiclass", "multi:softprob", ("p", "q", "r"))
    recipe = fit({"c": MANY}, np.arange(1_200) % 3, three)
    assert recipe.names == ("c=p", "c=q", "c=r")
    assert [feature.prior for feature in recipe.features] == [float(str(np.float32(1 / 3)))] * 3
    many = Target("y", "multiclass", "multi:softprob", tuple(range(11)))
    recipe = fit({"c": MANY}, np.arange(1_200) % 11, many)
    assert type(recipe.features[0]) is Frequency
    assert "11 classes are too many" in recipe.notes[0]


def test_times_with_parts(fit):
    days = {"d": np.array(["2013-01-05", "2014-03-05", "2013-01-05"], dtype="datetime64[D]")}
    assert fit(days).names == ("d.year", "d.month", "d.weekday", "d.dayofyear", "d.epoch")
    chosen = fit(days, columns={"d": {"parts": ["month", "hour"]}})
    assert chosen.features == (TimePart(name="d.month", column="d", part="month"),)
    origin = fit(days, columns={"d": {"parts": ["epoch"]}}).features[0].origin
    assert np.datetime64(origin, "s") == np.datetime64("2013-01-05")


def test_numbers_that_float32_does_not_distinguish_are_noted(fit):
    recipe = fit(
        {
            "id": pa.array([1_700_000_000 + i for i in range(100)]),
            "big": pa.array([10**i for i in range(18)] * 5 + [1] * 10),
        }
    )
    assert len(recipe.notes) == 1
    assert "'id': float32 distinguishes its values in steps of 128 only" in recipe.notes[0]


def test_names_are_distinct(fit):
    day = np.array(["2013-01-05", "2013-01-06"], dtype="datetime64[D]")
    recipe = fit({"d.day": pa.array([1, 2]), "d": day, "d.day_2": pa.array([1, 2])}, columns={"d": {"parts": ["day"]}})
    assert recipe.names == ("d.day", "d.day_3", "d.day_2")


@pytest.fixture(scope="session")
def full_recipe(fit):
    rng = np.random.default_rng(0)
    n = 1_200
    columns = {
        "plain": pa.array(rng.normal(size=n).astype(np.float32)),
        "shaped": pa.array(rng.normal(size=n), mask=rng.random(n) < 0.1),
        "few": rng.choice(["ä", "b", '"c"'], n),
        "many": MANY,
        "often": MANY,
        "hashed": MANY,
        "when": (np.datetime64("2013-01-01") + rng.integers(0, 400, n)).astype("datetime64[s]"),
        "same": np.zeros(n),
    }
    shaped = {"impute": "mean", "indicator": True, "clip": [-1, 1], "log1p": True, "standardise": True}
    encodings = {"often": {"encoding": "frequency"}, "hashed": {"encoding": "hash"}}
    return fit(columns, columns={"shaped": shaped, **encodings}), pa.table(columns)


def test_json_round_trip(full_recipe):
    recipe, table = full_recipe
    assert {type(feature) for feature in recipe.features} == {
        Number, Indicator, Category, TargetEncoding, Frequency, Hash, TimePart,
    }  # fmt: skip
    text = recipe.to_json()
    back = Recipe.from_json(text)
    assert back == recipe
    assert back.to_json() == text
    for name, a, b in zip(recipe.names, feature_columns(recipe, table), feature_columns(back, table), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert a.dtype == b.dtype == np.float32


def test_json_is_readable(full_recipe):
    value = json.loads(full_recipe[0].to_json())
    assert value["levels"]["few"] == ['"c"', "b", "ä"]
    assert {"encoding": "codes", "name": "few", "column": "few"} in value["features"]
    assert value["dropped"] == {"same": "constant"}
    assert "fold_values" not in full_recipe[0].to_json()


@settings(max_examples=50)
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=20))
def test_values_survive_json_exactly(fit, values):
    words = [str(i) for i in range(len(values))]
    target = Target("y", "regression", "reg:squarederror")
    recipe = fit({"c": words}, values, target, columns={"c": {"encoding": "target"}}, smoothing=0)
    back = Recipe.from_json(recipe.to_json())
    assert back == recipe
    order = np.argsort(words)
    np.testing.assert_array_equal(np.array(back.features[0].values, np.float32), np.array(values, np.float32)[order])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": 2}, "version 2, this program reads up to 1"),
        ({"format": "other"}, "format is 'other'"),
        ({"levels": {}}, "damaged"),
        ({"features": [{"encoding": "magic"}]}, "damaged"),
        ({"features": [{"encoding": "number", "name": "a", "column": "a", "more": 1}]}, "damaged.*unknown field"),
        ({"features": [{"encoding": "number", "name": "a"}]}, "damaged"),
        ({"features": 5}, "damaged"),
    ],
)
def test_wrong_recipes_are_refused(full_recipe, change, text):
    value = {**json.loads(full_recipe[0].to_json()), **change}
    with pytest.raises(ModelError, match=text):
        Recipe.from_json(json.dumps(value))


@pytest.mark.parametrize("text", ["", "[]", "5", "{", '{"version": 1}'])
def test_what_is_no_recipe_is_refused(text):
    with pytest.raises(ModelError, match="damaged"):
        Recipe.from_json(text)


def test_names_of_features_are_such_as_xgboost_takes():
    import xgboost

    names = feature_names(["x[1]", "x(1)", "a,b]", "income=<50K", "a\nb", "a\x00b", "ü 🤖"])
    assert names == ["x(1)", "x(1)_2", "a,b)", "income=_50K", "a_b", "a_b_2", "ü 🤖"]
    assert xgboost.DMatrix(np.zeros((1, len(names))), feature_names=names).feature_names == names


@pytest.mark.parametrize(
    "entry",
    [
        {"encoding": "hash", "name": "c", "column": "c", "bins": 0},
        {"encoding": "time", "name": "c", "column": "c", "part": "century"},
        {"encoding": "number", "name": "c", "column": "c", "standardise": [0.0, 0.0]},
        {"encoding": "number", "name": "c", "column": "c", "clip": [1, 0]},
        {"encoding": "number", "name": "c", "column": "c", "impute": 1e300},
        {"encoding": "number", "name": 3, "column": "c"},
        {"encoding": "frequency", "name": "c", "column": "c", "values": [1e39, 0.0]},
        {"encoding": "target", "name": "c", "column": "c", "values": [0.0, 0.0], "prior": -1e39},
    ],
)
def test_features_that_were_never_fitted_are_refused(entry):
    document = {"format": FORMAT, "version": VERSION, "seed": 0, "folds": 5, "levels": {"c": ["a", "b"]}}
    text = json.dumps({**document, "features": [entry], "dropped": {}, "notes": []})
    with pytest.raises(ModelError, match="damaged"):
        Recipe.from_json(text)


@pytest.mark.parametrize(("step", "found"), [(16, ["coarse_target"]), (64, ["coarse_target"]), (1_000, [])])
def test_a_target_that_float32_blurs_is_a_finding(make_rows, step, found):
    """Labels that lie far from zero and vary little: float32 has steps of 64 there."""
    label, target = 1e9 + np.arange(40) * step, Target("y", "regression", "reg:squarederror")
    statistics = collect(make_rows({"x": np.arange(40.0)}, label), Preprocess(), target)
    recipe = fit_recipe(statistics, Preprocess(), target)
    noted = [note for note in statistics_findings(statistics, recipe, target) if note.column == "y"]
    assert [note.kind for note in noted] == found
    assert all("steps of 64:" in note.message and "subtract a number" in note.message for note in noted)


@pytest.mark.parametrize("option", [{"clip": [-1e300, 1]}, {"clip": [0, 1e39]}, {"impute": -1e308}])
def test_options_beyond_float32_are_refused(fit, option):
    with pytest.raises(JobError, match=r"preprocess\.columns\.x\.\w+: .* is beyond float32"):
        fit({"x": [1.0, 2.0, None]}, columns={"x": option})
