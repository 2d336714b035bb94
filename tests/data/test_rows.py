"""Rows of fragments: ids, labels, weights, groups, the split; the survey before; queries kept whole."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.job import Data, Job, Training
from pipeline.data.fragments import Fragment
from pipeline.data.groups import group_keys, join_groups
from pipeline.data.rows import TRAIN, VALIDATION, RowPlan, Split, load_rows, split_rows
from pipeline.data.schema.derive import Derivation, check
from pipeline.data.schema.roles import assign_roles, with_built_in
from pipeline.data.schema.target_inference import decide_split, decide_target
from pipeline.data.schema.target_survey import merge_surveys, survey_fragment
from pipeline.data.source import open_source
from pipeline.errors import DataError

NAN = float("nan")


def opened(table, sizes=None):
    """A source of a table, cut into fragments of the given numbers of rows."""
    source = open_source(table)
    if sizes is None:
        return source
    piece = source.fragments[0].pieces[0]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    fragments = (
        Fragment(index, (dataclasses.replace(piece, rows=size, first_row=int(start)),))
        for index, (size, start) in enumerate(zip(sizes, starts, strict=False))
    )
    return dataclasses.replace(source, fragments=tuple(fragments))


def prepare(source, objective="auto", seed=0, **fields):
    """(source, plan): what a run does before its passes."""
    data = Data(source="x", **fields)
    derivation = Derivation(tuple(data.derive.items()), data.where)
    derived = check(derivation, source.schema)
    plan = RowPlan(assign_roles(data, derived), derivation, seed=seed)
    survey = merge_surveys([survey_fragment(source, f, plan, source.payload(f)) for f in source.fragments])
    if data.group is not None:
        source = join_groups(source, data.group, survey.runs)
    target = decide_target(data, Training(objective=objective), survey, derived.schema)
    split = decide_split(data, survey, derived.schema, seed)
    return source, dataclasses.replace(plan, target=target, split=split)


def load(source, plan):
    return [load_rows(source, fragment, plan, source.payload(fragment)) for fragment in source.fragments]


def table_of(rows=1000, seed=0):
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "x": random.normal(size=rows).astype(np.float32),
            "y": pa.array(random.integers(0, 5, rows), mask=random.random(rows) < 0.1),
            "w": random.random(rows),
            "name": random.choice(["u", "v"], rows),
            "day": pa.array(np.arange(rows) // 10, pa.int32()).cast(pa.date32()),
        }
    )


def test_rows_of_a_plain_source():
    table = table_of()
    source, plan = prepare(opened(table, [300, 500, 200]), target="y", weight="w", id=["name"])
    parts = load(source, plan)
    kept = table.column("y").is_valid().to_numpy()
    assert [part.table.column_names for part in parts] == [["x", "day"]] * 3
    assert parts[1].row_ids[0] >> np.uint64(40) == 1
    label = np.concatenate([part.label for part in parts])
    assert np.array_equal(label, table.column("y").to_numpy()[kept])
    assert np.allclose(np.concatenate([part.weight for part in parts]), table.column("w").to_numpy()[kept])
    assert sum(part.dropped["label missing"] for part in parts) == int((~kept).sum())
    for part in parts:
        assert len(part.row_ids) == len(part.label) == len(part.use) == part.table.num_rows
        assert part.label.dtype == part.weight.dtype == np.float32
        assert np.array_equal(part.fold_key, part.row_ids)
        assert (part.use == TRAIN).all()
        assert part.group is None


def test_nothing_is_copied_where_nothing_is_dropped():
    table = pa.table({"x": np.arange(100, dtype=np.float32), "y": np.arange(100, dtype=np.float32) % 7})
    source = opened(table)
    _, plan = prepare(source, target="y")
    rows = load_rows(source, source.fragments[0], plan, payload=table)
    assert np.shares_memory(rows.label, table.column("y").to_numpy())
    assert np.shares_memory(rows.table.column("x").to_numpy(), table.column("x").to_numpy())
    assert rows.dropped == {}


def test_derive_where_and_positions():
    table = table_of()
    source = opened(table, [400, 600])
    source, plan = prepare(source, target="big", derive={"big": "y > 2"}, where="x > 0")
    first, second = load(source, plan)
    x, y = table.column("x").to_numpy(), table.column("y").to_numpy(zero_copy_only=False)
    expected = np.flatnonzero((x[:400] > 0) & ~np.isnan(y[:400]))
    assert np.array_equal(first.row_ids, expected.astype(np.uint64))
    assert first.dropped["where"] == int((x[:400] <= 0).sum())
    assert np.array_equal(first.label, y[:400][expected] > 2)
    assert second.table.column_names == ["x", "w", "name", "day"]


def test_prediction_keeps_every_row_and_needs_no_target():
    table = table_of()
    _, plan = prepare(opened(table), target="big", derive={"big": "y > 2"}, where="x > 0", weight="w", id=["name"])
    new = opened(table.select(["day", "name", "x"]))
    plan = dataclasses.replace(plan, purpose="prediction", target=None, split=None)
    (rows,) = load(new, plan)
    assert rows.table.column_names == ["x", "day"]
    assert rows.ids.column_names == ["name"]
    assert rows.table.num_rows == len(rows.row_ids) == 1000
    assert rows.label is rows.weight is rows.group is rows.use is None


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0, -1.0], "the weight w is negative at row id 1 (fragment 0, row 1)"),
        ([1.0, None], "the weight w is missing at row id 1"),
        ([NAN, 1.0], "the weight w is missing at row id 0"),
        ([1.0, float("inf")], "the weight w is infinite"),
        (["1", "2"], "the weight w is string; weights are numbers >= 0"),
    ],
)
def test_bad_weights(weight, message):
    source, plan = prepare(opened(pa.table({"x": [1.0, 2.0], "y": [0, 1], "w": weight})), target="y", weight="w")
    with pytest.raises(DataError) as caught:
        load(source, plan)
    assert message in str(caught.value)


def test_infinite_labels_of_another_source():
    _, plan = prepare(opened(pa.table({"x": [1.0, 2, 3], "y": [0.5, 1, 2]})), target="y")
    with pytest.raises(DataError, match=r"the target y is infinite in 1 rows, first at row id 2 \(fragment 0, row 2\)"):
        load(opened(pa.table({"x": [1.0, 2, 3], "y": [0.5, 1, -float("inf")]})), plan)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(2, 60), min_size=1, max_size=5), st.integers(0, 3))
def test_a_row_validates_whatever_other_rows_are_left_out(sizes, seed):
    table = table_of(sum(sizes))
    fields = {"target": "x", "validation": {"share": 0.3}, "seed": seed}
    whole = load(*prepare(opened(table, sizes), **fields))
    fewer = load(*prepare(opened(table, sizes), where="w > 0.1 OR x < 0", **fields))
    use = dict(
        zip(np.concatenate([rows.row_ids for rows in whole]), np.concatenate([rows.use for rows in whole]), strict=True)
    )
    for rows in fewer:
        assert all(use[row_id] == code for row_id, code in zip(rows.row_ids, rows.use, strict=True))


def test_share_by_hash():
    source, plan = prepare(opened(table_of(20_000)), target="x", validation={"share": 0.2})
    (rows,) = load(source, plan)
    assert abs(rows.use.mean() - 0.2) < 0.01
    other = dataclasses.replace(plan, split=dataclasses.replace(plan.split, seed=5))
    assert (load(source, other)[0].use != rows.use).any()


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        (pa.array([1, 2, None, 3]), (1, 3), [1, 0, 0, 1]),
        (pa.array([1, 2, None, 3]), ("1", 2.0), [1, 1, 0, 0]),
        (pa.array(["a", "b", None, "a"]).dictionary_encode(), ("a",), [1, 0, 0, 1]),
        (pa.array([True, False, None, True]), (True,), [1, 0, 0, 1]),
        (pa.array([0, 1, None, 1], pa.int32()).cast(pa.date32()), ("1970-01-02",), [0, 1, 0, 1]),
        (pa.array([0.5, 1.0, NAN, None]), (1,), [0, 1, 0, 0]),
    ],
)
def test_split_by_values(column, values, expected):
    split = Split("values", column="c", values=values)
    assert split_rows(split, pa.table({"c": column}), np.arange(4, dtype=np.uint64)).tolist() == expected


def test_split_by_values_that_do_not_fit():
    with pytest.raises(
        DataError, match=r"data\.validation\.values: 'may' does not fit the column month, which is int64"
    ):
        prepare(
            opened(pa.table({"month": [1, 2], "y": [1.5, 2]})),
            target="y",
            validation={"column": "month", "values": ["may"]},
        )


@pytest.mark.parametrize(
    "kind", [pa.date32(), pa.timestamp("s"), pa.timestamp("ns", tz="Asia/Tokyo"), pa.int32(), pa.float32()]
)
def test_split_by_time_takes_the_last_share_whole_days(kind):
    table = table_of()
    days = pa.array(np.arange(1000) // 10, pa.int32())
    column = days.cast(pa.date32()).cast(kind) if kind not in (pa.int32(), pa.float32()) else days.cast(kind)
    shuffled = np.random.default_rng(0).permutation(1000)
    table = table.set_column(4, "day", column).take(shuffled)
    source, plan = prepare(opened(table, [400, 600]), target="x", validation={"time": "day", "share": 0.2})
    use = np.concatenate([rows.use for rows in load(source, plan)])
    assert np.array_equal(use, shuffled >= 800)


def test_split_by_time_with_missing_and_equal_times():
    table = pa.table({"x": np.arange(10.0), "t": [None, NAN, 1, 1, 1, 1, 1, 1, 2, 2]})
    source, plan = prepare(opened(table), target="x", validation={"time": "t", "share": 0.5})
    assert load(source, plan)[0].use.tolist() == [0] * 8 + [1] * 2
    for column, message in (
        ([1] * 10, "same in every row"),
        ([None] * 10, "missing in every row"),
        (["a"] * 10, "is string"),
    ):
        kind = pa.float64() if column[0] is None else None
        with pytest.raises(DataError, match=message):
            prepare(opened(pa.table({"x": np.arange(10.0), "z": np.arange(10), "t": pa.array(column, kind)})), target="x", validation={"time": "t", "share": 0.5})  # fmt: skip


def test_another_source_validates_wholly():
    assert split_rows(Split("all_validation"), pa.table({}), np.arange(3, dtype=np.uint64)).tolist() == [VALIDATION] * 3
    data = Data(source="x", target="x", validation={"source": "y"})
    source = opened(table_of())
    plan = RowPlan(assign_roles(data, check(Derivation(), source.schema)))
    survey = survey_fragment(source, source.fragments[0], plan, source.payload(source.fragments[0]))
    assert decide_split(data, survey, source.schema, 0) == Split("none")


def ranking(queries, sizes, validation=None, kind=None):
    rows = len(queries)
    table = pa.table({"x": np.arange(rows, dtype=np.float32), "y": np.arange(rows) % 3, "q": pa.array(queries, kind)})
    return prepare(opened(table, sizes), target="y", group="q", validation=validation)


def test_fragments_that_share_a_query_are_merged():
    source, plan = ranking([1, 1, 2, 2, 2, 2, 3, 4], [3, 2, 1, 2])
    assert [fragment.rows for fragment in source.fragments] == [6, 2]
    assert [fragment.index for fragment in source.fragments] == [0, 1]
    first, second = load(source, plan)
    assert first.table.column("x").to_pylist() == [0, 1, 2, 3, 4, 5]
    assert first.group.tolist() == [1, 1, 2, 2, 2, 2]
    assert first.fold_key.tolist() == [0, 0, 2, 2, 2, 2]
    assert second.fold_key.tolist() == [1 << 40, (1 << 40) + 1]
    assert first.group.dtype == np.int64


def test_queries_that_begin_again_are_refused():
    with pytest.raises(
        DataError, match=r"data\.group = 'q': to train, the rows of a query must be next to each other, and 1 of 3"
    ):
        ranking([1, 1, 2, 1, 3], [2, 3])
    with pytest.raises(DataError, match="next to each other"):
        ranking([1, 2, 1], [3])
    with pytest.raises(DataError, match=r"and 2 of 3 queries begin again further down.*evaluate takes any order"):
        ranking([1, 2, 1, 2, 1, 2, 1, 3], [8])


def test_a_query_that_goes_over_fragments_without_rows():
    table = pa.table(
        {"x": np.arange(6.0), "y": [0, 1, 2, 0, 1, 2], "q": [1, 1, 1, 1, 2, 2], "keep": [1, 1, 0, 1, 1, 1]}
    )
    source, plan = prepare(opened(table, [2, 1, 3]), target="y", group="q", where="keep = 1")
    assert [fragment.rows for fragment in source.fragments] == [6]
    assert load(source, plan)[0].row_ids.tolist() == [0, 1, 3, 4, 5]


def test_missing_queries_are_refused():
    with pytest.raises(DataError, match="the group q is missing in 1 rows"):
        ranking([1, None, 2], [3])


def test_queries_weigh_as_a_whole():
    columns = {"x": [1.0, 2.0, 3.0], "y": [0, 1, 1], "q": [1, 1, 2]}
    for weight, fits in (([2.0, 2.0, 3.0], True), ([2.0, 1.0, 3.0], False)):
        source, plan = prepare(opened(pa.table({**columns, "w": weight})), target="y", group="q", weight="w")
        if fits:
            assert load(source, plan)[0].weight.tolist() == weight
        else:
            with pytest.raises(DataError, match="the weight w changes within a query at row id 1"):
                load(source, plan)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=30),
    st.lists(st.integers(1, 9), min_size=1, max_size=40),
    st.sampled_from([{"share": 0.5}, {"time": "x", "share": 0.5}, {"column": "x", "values": [3, 5, 8]}]),
)
def test_queries_are_never_split_by_fragments_or_validation(lengths, cuts, validation):
    queries = np.repeat([f"query {i}" for i in range(len(lengths))], lengths)
    if len(queries) < 3:
        return
    ends = np.unique(np.minimum(np.cumsum(cuts), len(queries)))
    sizes = np.diff(ends, prepend=0, append=len(queries)).tolist()
    source, plan = ranking(queries.tolist(), [size for size in sizes if size], validation)
    where = {}
    for rows in load(source, plan):
        for key, use, fold in zip(rows.group.tolist(), rows.use.tolist(), rows.fold_key.tolist(), strict=True):
            assert where.setdefault(key, (rows.fragment, use, fold)) == (rows.fragment, use, fold)
    assert len(where) == len(lengths)


def test_group_keys_are_the_same_for_the_same_query_anywhere():
    def keys(column):
        return group_keys(column, "q", 7)

    texts = pa.chunked_array([["a", "b"], ["b", "c"]])
    plain = keys(texts)
    assert np.array_equal(plain, keys(texts.dictionary_encode()))
    assert np.array_equal(plain[1:3], [plain[1]] * 2)
    assert len(set(plain.tolist())) == 3
    assert keys(pa.chunked_array([[2**63 - 1, -5]])).tolist() == [2**63 - 1, -5]
    assert len(keys(pa.chunked_array([], pa.string()))) == 0
    with pytest.raises(DataError, match="the group q is missing in 1 rows of fragment 7"):
        keys(pa.chunked_array([[1.0, NAN]]))


def test_rank_files_have_target_and_group_built_in(data):
    path = str(data / "rank" / "rank.train")
    source = open_source(path, format="libsvm")
    job = with_built_in(Job.parse({"data": {"source": path}}), source)
    assert (job.data.target, job.data.group) == ("label", "query")
    binary = with_built_in(Job.parse({"data": {"source": path}, "training": {"objective": "reg:squarederror"}}), source)
    assert (binary.data.group, binary.data.exclude) == (None, ["query"])
    source, plan = prepare(source, target="label", group="query", validation={"share": 0.2})
    parts = load(source, plan)
    assert plan.target.objective == "rank:ndcg"
    assert sum(part.table.num_rows for part in parts) == 3005
    assert len(np.unique(np.concatenate([part.group for part in parts]))) == 201


def test_flights(data):
    source, plan = prepare(
        open_source(str(data / "nycflights13")),
        target="late",
        derive={"late": "arr_delay > 15"},
        exclude=["dep_time", "dep_delay", "arr_time", "air_time"],
        validation={"column": "month", "values": [11, 12]},
    )
    parts = load(source, plan)
    assert plan.target.classes == (False, True)
    assert plan.target.rows == (249716, 77630)
    assert sum(part.dropped.get("label missing", 0) for part in parts) == 9430
    assert sum(int(part.label.sum()) for part in parts) == 77630
    months = np.concatenate([part.table.column("month").to_numpy() for part in parts])
    assert np.array_equal(np.concatenate([part.use for part in parts]) == VALIDATION, months >= 11)
    assert "arr_delay" not in plan.roles.features


def test_taxi(data):
    source, plan = prepare(
        open_source(str(data / "green_taxi")),
        target="minutes",
        derive={"minutes": "date_diff('second', lpep_pickup_datetime, lpep_dropoff_datetime) / 60.0"},
        where="minutes BETWEEN 1 AND 120",
        validation={"time": "lpep_pickup_datetime", "share": 0.2},
    )
    parts = load(source, plan)
    label = np.concatenate([part.label for part in parts])
    assert plan.target.kind == "regression"
    assert label.min() >= 1
    assert label.max() <= 120
    assert sum(part.dropped["where"] for part in parts) == 13770
    assert abs(np.concatenate([part.use for part in parts]).mean() - 0.2) < 0.01


def test_times_beyond_those_of_python_and_of_microseconds_split_too():
    ticks = np.arange(-5, 5) * 10**18
    source = opened(
        pa.table({"t": pa.array(ticks).cast(pa.timestamp("s")), "y": np.arange(10.0), "x": np.arange(10.0)})
    )
    found, plan = prepare(source, target="y", validation={"time": "t", "share": 0.3})
    assert load(found, plan)[0].use.tolist() == [0] * 7 + [1] * 3
    with pytest.raises(DataError, match="does not fit the column t"):
        prepare(source, target="y", validation={"column": "t", "values": [10**30]})
    found, plan = prepare(source, target="y", validation={"column": "t", "values": [10**18]})
    assert load(found, plan)[0].use.tolist() == [0] * 6 + [1] + [0] * 3


def test_groups_of_decimals_are_distinguished_exactly():
    keys = group_keys(pa.chunked_array([pa.array([2**53, 2**53 + 1], pa.decimal128(30, 0))]), "q", 0)
    assert keys[0] != keys[1]
