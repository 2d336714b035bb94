"""What the target's values make of the task, and labels."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.job import Data, Training
from pipeline.data.keys import row_ids
from pipeline.data.rows import SelectedRows
from pipeline.data.schema.target import Target, encode_labels
from pipeline.data.schema.target_inference import decide_target
from pipeline.data.schema.target_survey import (
    MAX_CLASSES,
    TargetSurvey,
    TimeSample,
    merge_surveys,
    survey_labels,
    training_share,
)
from pipeline.data.split import Split
from pipeline.errors import DataError

NAN = float("nan")
INF = float("inf")


def survey(array, fragment=0):
    table = pa.table({"y": array})
    ids = row_ids(fragment, np.arange(len(array), dtype=np.uint64))
    return TargetSurvey(len(array), len(array), label=survey_labels(SelectedRows(table, ids, 0), "y"))


def decide(array, objective="auto", params=(), weights=None, **data):
    array = array if isinstance(array, pa.Array) else pa.array(array)
    return decide_target(
        Data(source="x", target="y", **data),
        Training(objective=objective, params=dict(params), class_weights=weights),
        survey(array),
        pa.schema([("y", array.type)]),
    )


@pytest.mark.parametrize(
    ("values", "kind", "objective", "classes", "rows"),
    [
        ([True, False, True], "binary", "binary:logistic", (False, True), (1, 2)),
        (["no", "yes", None], "binary", "binary:logistic", ("no", "yes"), (1, 1)),
        ([0, 1, 1, None], "binary", "binary:logistic", (0, 1), (1, 2)),
        ([1.0, 2.0, NAN, 2.0], "binary", "binary:logistic", (1, 2), (1, 2)),
        ([0.0, -0.0, 1.0], "binary", "binary:logistic", (0, 1), (2, 1)),
        (["b", "a", "c", "a"], "multiclass", "multi:softprob", ("a", "b", "c"), (2, 1, 1)),
        ([1, 2, 3], "regression", "reg:squarederror", (), ()),
        ([1.5, 2.5, 3.5], "regression", "reg:squarederror", (), ()),
    ],
)
def test_auto(values, kind, objective, classes, rows):
    got = decide(values)
    assert got == Target("y", kind, objective, classes, rows)
    assert [type(name) for name in got.classes] == [type(name) for name in classes]


def test_auto_takes_dictionaries_and_decimals():
    assert decide(pa.array(["b", "a"]).dictionary_encode()).classes == ("a", "b")
    assert decide([decimal.Decimal("1.0"), decimal.Decimal("2.0")]).classes == (1, 2)


@pytest.mark.parametrize(
    ("values", "objective", "kind"),
    [
        ([1, 2, 3], "multi:softmax", "multiclass"),
        ([0.5, 1.0, 1.5], "multi:softprob", "multiclass"),
        ([True, False], "reg:squarederror", "regression"),
        ([0, 1], "reg:logistic", "regression"),
        ([0, 3], "binary:hinge", "binary"),
        ([0, 5, 9], "count:poisson", "regression"),
    ],
)
def test_explicit(values, objective, kind):
    got = decide(values, objective)
    assert (got.kind, got.objective) == (kind, objective)


def test_groups_make_it_a_ranking():
    assert decide([0, 1, 2], group="q") == Target("y", "ranking", "rank:ndcg")
    assert decide([0, 1], "rank:pairwise", group="q").kind == "ranking"


@pytest.mark.parametrize(
    ("positive", "values", "classes"),
    [
        ("a", ["a", "b"], ("b", "a")),
        (0, [0.0, 1.0], (1, 0)),
        (False, [True, False], (True, False)),
        (1, ["0", "1"], ("0", "1")),
    ],
)
def test_positive(positive, values, classes):
    assert decide(values, positive=positive).classes == classes


@pytest.mark.parametrize(
    ("values", "fields", "message"),
    [
        (pa.nulls(3, pa.int64()), {}, "the target y is missing in all 3 rows"),
        ([NAN, NAN], {}, "missing in all 2 rows"),
        (["a", "a", None], {}, "one class only"),
        ([2.0, 2.0], {}, "the same value in every row"),
        ([1.0, INF, 2.0], {}, "is infinite in 1 rows, first at row id 1 (fragment 0, row 1)"),
        ([datetime.datetime(2020, 1, 1)], {}, "is timestamp[us]; derive a number or a text"),
        (["a", "b", "c"], {"objective": "reg:squarederror"}, "is text, and reg:squarederror needs numbers"),
        (["a", "b", "c"], {"objective": "binary:logistic"}, "has 3 distinct values, and binary:logistic needs two"),
        ([1, 2, 3], {"objective": "binary:logistic"}, "needs two"),
        ([0.5 * i for i in range(1500)], {"objective": "multi:softprob"}, "more than 1000 distinct values"),
        ([str(i) for i in range(1500)], {}, "too many classes for multi:softprob"),
        ([-1, 2, 3], {"objective": "count:poisson"}, "holds values < 0, and count:poisson needs values >= 0"),
        ([0, 2, 3], {"objective": "reg:gamma"}, "needs values > 0"),
        ([0, 2, 3], {"objective": "reg:logistic"}, "holds values > 1, and reg:logistic needs values <= 1"),
        ([0, 50, 3], {"group": "q"}, "set training.params.ndcg_exp_gain = false"),
        ([0, 1, 2], {"objective": "rank:ndcg"}, "name the column of query ids as data.group"),
        ([0, 1, 2], {"objective": "reg:squarederror", "group": "q"}, "data.group is for ranking"),
        (
            ["a", "b"],
            {"positive": "c"},
            "data.positive = 'c' is neither of the two classes of y: the classes are text, positive is a text",
        ),
        ([0, 1, 1], {"positive": "0"}, "the two classes of y: the classes are int64, positive is a text"),
        ([True, False], {"positive": "true"}, "the two classes of y: the classes are bool, positive is a text"),
        (pa.array([7.5, 2.5], pa.float32()), {"positive": 7}, "the classes are float, positive is a whole number"),
        ([1.5, 2, 3], {"weights": "balanced"}, "training.class_weights is for classes; y makes a regression task"),
        ([0, 1], {"objective": "reg:logistic", "weights": {"0": 2.0}}, "training.class_weights is for classes"),
        ([0, 1, 2], {"group": "q", "weights": "balanced"}, "y makes a ranking task (training.objective = 'rank:ndcg')"),
        ([1.5, 2, 3], {"positive": 2}, "for a target of two classes"),
    ],
)
def test_refused(values, fields, message):
    with pytest.raises(DataError) as caught:
        decide(values, **fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_large_grades_are_allowed_with_linear_gain():
    assert decide([0, 50, 3], params={"ndcg_exp_gain": False}, group="q").objective == "rank:ndcg"


def test_no_rows():
    empty, schema = pa.array([], pa.int64()), pa.schema([("y", pa.int64())])
    with pytest.raises(DataError, match="the source has no rows"):
        decide(empty)
    with pytest.raises(DataError, match=r"data\.where leaves out every row"):
        decide_target(Data(source="x", target="y"), Training(), TargetSurvey(5, 0, survey(empty).label), schema)


LABELS = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-5, 5)), min_size=1),
    st.lists(st.one_of(st.none(), st.text("ab", max_size=2)), min_size=1),
    st.lists(st.one_of(st.none(), st.floats(-5, 5), st.just(NAN), st.just(INF)), min_size=1),
)


@given(LABELS, st.data())
def test_merging_surveys_equals_surveying_all(values, draw):
    kind = next((pa.scalar(value).type for value in values if value is not None), pa.int64())
    cut = draw.draw(st.integers(0, len(values)))
    parts = [survey(pa.array(values[:cut], kind)), survey(pa.array(values[cut:], kind))]
    merged, whole = merge_surveys(parts), survey(pa.array(values, kind))
    assert merged.rows == whole.rows
    for name in ("kind", "counts", "missing", "infinite", "minimum", "maximum"):
        assert getattr(merged.label, name) == getattr(whole.label, name)


def test_counts_are_bounded_when_merged():
    parts = [survey(pa.array([f"{part}-{i}" for i in range(MAX_CLASSES // 2 + 1)])) for part in range(2)]
    assert parts[0].label.counts is not None
    assert merge_surveys(parts).label.counts is None


def encode(target, array):
    return encode_labels(target, pa.chunked_array([array]))


def test_labels_of_classes_are_their_index():
    three = Target("y", "multiclass", "multi:softprob", ("a", "b", "c"))
    labels = encode(three, pa.array(["c", None, "a"]))
    assert labels.dtype == np.float32
    assert np.array_equal(labels, [2, NAN, 0], equal_nan=True)
    assert np.array_equal(encode(three, pa.array(["b", "b", None]).dictionary_encode()), [1, 1, NAN], equal_nan=True)
    turned = Target("y", "binary", "binary:logistic", (1, 0))
    assert np.array_equal(encode(turned, pa.array([0, 1, None])), [1, 0, NAN], equal_nan=True)
    booleans = Target("y", "binary", "binary:logistic", (False, True))
    assert np.array_equal(encode(booleans, pa.array([True, None, False])), [1, NAN, 0], equal_nan=True)
    assert np.array_equal(encode(booleans, pa.array([1.0, 0.0])), [1, 0])


@pytest.mark.parametrize(
    ("classes", "array", "message"),
    [
        (("a", "b"), pa.array(["a", "c", None, "c"]), "none of its 2 classes, in 2 rows"),
        ((0, 1), pa.array([0, 2, None]), "none of its 2 classes, in 1 rows"),
        ((0, 1), pa.array([0, 2, NAN], pa.float32()), "none of its 2 classes, in 1 rows"),
        ((0, 1), pa.array(["0"]), "is string, and the classes are numbers"),
        (("a", "b"), pa.array([1]), "is int64, and the classes are text"),
    ],
)
def test_labels_that_are_no_class(classes, array, message):
    with pytest.raises(DataError) as caught:
        encode(Target("y", "binary", "binary:logistic", classes), array)
    assert message in str(caught.value)


def test_labels_of_numbers():
    target = Target("y", "regression", "reg:squarederror")
    array = pa.array([1.5, 2.5], pa.float32())
    assert np.shares_memory(encode(target, array), array.to_numpy())
    assert np.array_equal(encode(target, pa.array([1, None, 3])), [1, NAN, 3], equal_nan=True)
    assert np.array_equal(encode(target, pa.array([True, False])), [1, 0])
    assert np.isinf(encode(target, pa.array([INF]))).all()
    with pytest.raises(DataError, match="beyond float32"):
        encode(target, pa.array([1e300]))
    with pytest.raises(DataError, match="is string, and reg:squarederror needs numbers"):
        encode(target, pa.array(["a"]))


def test_the_share_that_trains_is_known_from_the_survey():
    label = survey(pa.array([0, 1])).label
    held = TargetSurvey(10, 10, label, held={10: 2, 11: 3, 12: 5})
    assert training_share(held, Split("values", column="month", values=(11, 12.0))) == pytest.approx(0.2)
    times = TimeSample(np.arange(4, dtype=np.uint64), np.array([1, 5, 7, 9]))
    assert training_share(TargetSurvey(4, 4, label, times), Split("time", column="t", threshold=7)) == pytest.approx(
        0.5
    )
    assert training_share(TargetSurvey(4, 4, label), Split("values", column="month", values=(1,))) == 1.0
    assert training_share(held, Split("share", share=0.3)) == 1.0


# numbers that floats do not distinguish


def test_classes_of_neighbouring_large_integers_stay_apart():
    first = 2**60
    values = pa.array([first, first + 1, first + 2, None, first + 1], pa.int64())
    target = decide(values, objective="multi:softprob")
    assert target.classes == (first, first + 1, first + 2)
    found = encode_labels(target, pa.chunked_array([values]))
    np.testing.assert_array_equal(found, np.array([0, 1, 2, NAN, 1], np.float32))
    unsigned = pa.chunked_array([pa.array([2**63, first + 1], pa.uint64())])
    with pytest.raises(DataError, match="none of its 3 classes, in 1 rows"):
        encode_labels(target, unsigned)


def test_floats_are_no_classes_that_only_integers_distinguish():
    target = Target("y", "binary", "binary:logistic", (2**60, 2**60 + 1))
    assert encode_labels(target, pa.chunked_array([pa.array([2.0**60])])).tolist() == [0.0]


def test_whole_decimals_are_classes_as_integers():
    values = pa.array([decimal.Decimal(2**53), decimal.Decimal(2**53 + 1)], pa.decimal128(18, 0))
    target = decide(values)
    assert target.classes == (2**53, 2**53 + 1)
    assert encode_labels(target, pa.chunked_array([values])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("kind", [pa.decimal128(38, 0), pa.decimal128(20, 2)])
def test_decimals_of_too_many_digits_are_no_classes(kind):
    small = pa.array([decimal.Decimal(1), decimal.Decimal(2)], kind)
    assert decide(small).classes == (1, 2)
    large = pa.array([decimal.Decimal(2**53), decimal.Decimal(3)], kind)
    with pytest.raises(DataError, match="cannot be distinguished"):
        decide(large)


def test_regression_on_numbers_that_float32_does_not_distinguish_is_refused():
    with pytest.raises(DataError, match="cannot distinguish: subtract a number close"):
        decide(pa.array([1_600_000_000, 1_600_000_001, 1_600_000_002]))
    with pytest.raises(DataError, match="beyond float32"):
        decide(pa.array([1e300, 2.0, 3.0]))
