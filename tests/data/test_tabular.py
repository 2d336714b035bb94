"""Rows in memory of every kind become the same table; what is no rows is refused in one line."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pytest
from dask import array as dask_array
from dask import bag
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import tabular
from pipeline.data.frames import computed, kind_of
from pipeline.data.partitions import CollectionPartitions, look_at
from pipeline.data.reading import count_rows, read_fragment
from pipeline.data.schema.hints import ColumnHints
from pipeline.data.source import cut_by_rows, open_source
from pipeline.errors import SourceError
from pipeline.events.findings import Finding, text_of

TABLE = pa.table({"a": [1, 2, 3], "b": [0.5, None, 2.0]})
ARRAY = np.array([[1.0, 0.5], [2.0, np.nan], [3.0, 2.0]])
RECORDS = np.array([(1, 0.5), (2, np.nan), (3, 2.0)], dtype=[("a", "i8"), ("b", "f8")])
MASKED = np.ma.masked_array([[1.0, 0.5], [2.0, 7.0], [3.0, 2.0]], mask=[[0, 0], [0, 1], [0, 0]])


class Stream:
    """What speaks Arrow's C interface and is none of the known classes, as a Polars frame is."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return TABLE.__arrow_c_stream__(requested_schema)


class Interchange:
    """What speaks the older interchange protocol alone."""

    def __dataframe__(self, *arguments: Any, **named: Any) -> object:
        return TABLE.__dataframe__(*arguments, **named)


class Derived(pd.DataFrame):  # type: ignore[misc]
    """A frame of another package's class, such as GeoPandas'."""


ROWS: dict[str, Any] = {
    "table": TABLE,
    "record batch": TABLE.to_batches()[0],
    "reader": TABLE.to_reader(),
    "stream": Stream(),
    "interchange": Interchange(),
    "pandas": TABLE.to_pandas(),
    "derived": Derived(TABLE.to_pandas()),
    "columns": TABLE.to_pydict(),
    "columns of series": dict(TABLE.to_pandas().items()),
    "columns of arrays": {"a": pa.array([1, 2, 3]), "b": np.array([0.5, np.nan, 2.0])},
    "rows": TABLE.to_pylist(),
    "rows without some keys": [{"a": 1, "b": 0.5}, {"a": 2}, {"b": 2, "a": 3}],
    "records": RECORDS,
    "array": ARRAY,
    "other byte order": ARRAY.astype(">f8"),
    "masked": MASKED,
    "objects": ARRAY.astype(object),
}
NAMED = ("array", "other byte order", "masked", "objects")


@pytest.mark.parametrize("kind", ROWS)
def test_rows_of_every_kind_are_a_source(kind: str) -> None:
    source = open_source(ROWS[kind], names=["a", "b"] if kind in NAMED else None)
    (fragment,) = source.fragments
    table = read_fragment(source, fragment, payload=source.payload(fragment))
    assert table.column_names == ["a", "b"]
    assert table["a"].to_pylist() == [1, 2, 3]
    assert table["b"].to_pylist() == [0.5, None, 2.0]


NO_ROWS: dict[str, tuple[Any, str]] = {
    "Series": (pd.Series([1.0]), r"pandas.*Series: rows are a frame"),
    "Index": (pd.Index([1.0]), r"pandas.*Index: rows are a frame"),
    "generator": ((row for row in ()), "a generator: give a list"),
    "glob": (Path().glob("*.none"), "give a list of its rows"),
    "int": (7, "an int; accepted: names of files"),
    "bytes": (b"x.csv", "a bytes"),
    "dataset": (pyarrow.dataset.dataset(TABLE), r"Dataset: give what to_table\(\) gives"),
    "column": (TABLE["a"], "ChunkedArray"),
    "bag": (bag.from_sequence([{"a": 1}], npartitions=1), r"Bag: give bag.to_dataframe\(\)"),
    "list of numbers": ([1, 2], "item 1 of the list is an int"),
    "list of frames": ([TABLE.to_pandas()], r"item 1 of the list is a pandas.*DataFrame"),
    "names and a file": (["a.csv", {"a": 1}], "item 2 of the list is a dict"),
    "array without names": (ARRAY, r"give names=\[\.\.\.\], 2 of them"),
    "row": (ARRAY[0], r"shape \(2,\).*reshape\(1, -1\)"),
    "cube": (ARRAY[None], r"shape \(1, 3, 2\)"),
    "ragged": ({"a": [1], "b": [1, 2]}, "different numbers of rows: a 1, b 2"),
    "several types": ({"a": [1, "secret"]}, "column 'a': its values are of no one type"),
    "rows of several types": ([{"a": 1}, {"a": "secret"}], "column 'a': its values are of no one type"),
    "complex": ({"a": np.array([1j])}, "column 'a': its values are of no one type"),
    "two dimensions": ({"a": ARRAY}, "column 'a': its values are of no one type"),
    "dask row": (dask_array.ones(3), r"shape \(3,\)"),
    "dask array without names": (dask_array.ones((3, 2)), r"give names=\[\.\.\.\], 2 of them"),
}


@pytest.mark.parametrize("kind", NO_ROWS)
def test_what_is_no_rows_is_refused_in_one_line(kind: str) -> None:
    data, message = NO_ROWS[kind]
    with pytest.raises(SourceError, match=message) as error:
        open_source(data)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a"], "holds 1, the array has 2 columns"), (["a", "a"], "two columns are named 'a'"), ("ab", "holds one text")],
)
def test_names_that_do_not_fit_an_array_are_refused(names: Any, message: str) -> None:
    for data in (ARRAY, dask_array.from_array(ARRAY)):
        with pytest.raises(SourceError, match=message):
            open_source(data, names=names)


def test_names_are_for_arrays_alone(tmp_path: Path) -> None:
    for data in (TABLE, TABLE.to_pandas(), str(tmp_path)):
        with pytest.raises(SourceError, match="names= is for arrays"):
            open_source(data, names=["a", "b"])


def test_names_of_files_may_be_paths(tmp_path: Path) -> None:
    assert kind_of(tmp_path) is None
    assert kind_of([tmp_path, "x"]) is None
    assert kind_of([]) is None


# The index of a frame


def frame(index: Any = None) -> pd.DataFrame:
    return pd.DataFrame({"x": [1.0, 2.0, 3.0]}, index=index)


INDEXES: dict[str, tuple[Any, list[str], str | None]] = {  # index, columns, note
    "counted": (None, ["x"], None),
    "counted by two": (pd.RangeIndex(5, 11, 2), ["x"], None),
    "named count": (pd.RangeIndex(3, name="row"), ["x", "row"], None),
    "named": (pd.Index(["p", "q", "r"], name="key"), ["x", "key"], None),
    "named times": (pd.date_range("2020-01-01", periods=3, name="day"), ["x", "day"], None),
    "named by a number": (pd.Index([7, 8, 9], name=0), ["x", "0"], None),
    "two levels": (pd.MultiIndex.from_tuples([(1, "p"), (1, "q"), (2, "p")], names=["g", "k"]), ["x", "g", "k"], None),
    "one of two levels": (
        pd.MultiIndex.from_tuples([(1, "p"), (1, "q"), (2, "p")], names=["g", None]), ["x", "g"], "it has no name",
    ),
    "texts": (pd.Index(["p", "q", "r"]), ["x"], "it has no name"),
    "numbers left over": (pd.Index([4, 2, 7]), ["x"], "it has no name"),
    "of a column's name": (pd.Index([4, 2, 7], name="x"), ["x"], "a column has its name"),
}  # fmt: skip


@pytest.mark.parametrize("kind", INDEXES)
def test_a_named_index_is_a_column_and_another_is_reported(kind: str) -> None:
    index, columns, note = INDEXES[kind]
    given = frame(index)
    source = open_source(given)
    assert source.schema.names == columns
    assert [note in text_of(one) for one in source.notes] == [True] * len(source.notes) if note else not source.notes
    assert bool(source.notes) == (note is not None)
    assert any(isinstance(one, Finding) for one in source.notes) == (kind in ("texts", "one of two levels"))
    (fragment,) = source.fragments
    table = read_fragment(source, fragment, payload=source.payload(fragment))
    for name in columns[1:]:
        level = next(place for place, one in enumerate(given.index.names) if str(one) == name)
        assert table[name].to_pylist() == given.index.get_level_values(level).to_list()
    assert given.shape == (3, 1)  # the caller's frame is as it was


def test_a_named_index_of_a_dask_frame_is_a_column() -> None:
    from dask.dataframe import from_pandas

    for index, names in ((pd.Index(["p", "q", "r"], name="key"), ["x", "key"]), (None, ["x"])):
        source = open_source(from_pandas(frame(index), npartitions=2))
        assert source.schema.names == names
        tables = [read_fragment(source, one, payload=computed(source.payload(one))) for one in source.fragments]
        assert pa.concat_tables(tables).num_rows == 3
        if len(names) > 1:
            assert pa.concat_tables(tables)["key"].to_pylist() == ["p", "q", "r"]
    notes = open_source(from_pandas(frame(pd.Index(["p", "q", "r"])), npartitions=2)).notes
    assert [isinstance(note, Finding) for note in notes] == [True]


# Columns that are not read


def objects() -> pd.DataFrame:
    return pd.DataFrame({"x": [1.0, 2.0], "odd": pd.Series([object(), {"a": 1}], dtype=object), "y": [0, 1]})


def test_columns_of_objects_that_are_left_out_are_not_converted() -> None:
    with pytest.raises(
        SourceError, match=r"column 'odd' holds Python objects.*convert it, or leave it out.*data\.exclude"
    ):
        open_source(objects())
    source = open_source(objects(), exclude=["od*"])
    assert source.schema.names == ["x", "y"]
    (fragment,) = source.fragments
    assert read_fragment(source, fragment, payload=source.payload(fragment))["y"].to_pylist() == [0, 1]
    assert open_source(objects(), only={"x"}).schema.names == ["x"]
    assert tabular.to_table(objects(), "the data", only={"x"}).column_names == ["x"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [1, "a"],
            r"column 'o' holds Python objects of several types, .*convert it, or .*data\.exclude.*astype",
        ),
        ([{"a": 1}, 2.0], "column 'o' holds Python objects"),
        (
            [2**70, 1],
            r"column 'o' holds whole numbers that are too large for 64 bits: .*data\.exclude.*astype\(float\)",
        ),
        ([1j, 2j], r"column 'o' holds complex numbers \(complex128\).*convert it, or .*data\.exclude"),
    ],
)
def test_a_column_that_cannot_be_converted_is_named_with_the_ways_out(values: list[Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(pd.DataFrame({"x": [1.0, 2.0], "o": values}))
    with pytest.raises(SourceError, match=r"column 'o'.*convert it, or .*data\.exclude"):
        open_source({"x": [1.0, 2.0], "o": values if values != [1j, 2j] else np.array(values)})


def test_two_columns_of_one_name_are_refused_by_name() -> None:
    given = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["x", "y", "x"])
    with pytest.raises(SourceError, match=r"two columns are named 'x'"):
        open_source(given)
    assert tabular.to_table(given, "the data", only={"y"}).column_names == ["y"]
    with pytest.raises(SourceError, match=r"two columns are named '1'"):
        open_source(pd.DataFrame([[1.0, 2.0]], columns=[1, "1"]))


def test_of_dask_frames_too() -> None:
    from dask.dataframe import from_pandas

    source = open_source(from_pandas(objects(), npartitions=1), exclude=["odd"])
    (fragment,) = source.fragments
    payload = computed(source.payload(fragment))
    assert read_fragment(source, fragment, ["x", "y"], payload)["x"].to_pylist() == [1.0, 2.0]
    assert read_fragment(source, fragment, [], payload).num_rows == 2


def test_pandas_two_and_three_name_their_frame_otherwise() -> None:
    """pandas 3 has its classes in the module pandas, pandas 2 in pandas.core.frame."""
    for module in ("pandas", "pandas.core.frame"):
        assert tabular.is_frame(type("DataFrame", (), {"__module__": module})())
    assert not tabular.is_frame(type("DataFrame", (), {"__module__": "polars.dataframe.frame"})())
    assert not tabular.is_frame(pd.Series([1]))


# Types of pandas


def test_categories_of_numbers_stay_categories() -> None:
    given = pd.DataFrame({"k": pd.Categorical([3, 1, None]), "t": pd.Categorical(["a", "b", "a"]), "x": [1.0, 2, 3]})
    source = open_source(given)
    assert source.schema.field("k").type == pa.dictionary(pa.int32(), pa.int64())
    assert source.schema.field("t").type == pa.dictionary(pa.int32(), pa.string())
    (fragment,) = source.fragments
    assert read_fragment(source, fragment, payload=source.payload(fragment))["k"].to_pylist() == [3, 1, None]
    plain = open_source(given, hints=ColumnHints(types=pa.schema([("k", pa.int64())])))  # as a model's manifest has it
    assert plain.schema.field("k").type == pa.int64()


def test_sparse_columns_and_names_that_are_no_texts() -> None:
    given = pd.DataFrame({1: pd.arrays.SparseArray([0, 0, 4]), "x": [1.0, 2.0, 3.0]})
    source = open_source(given)
    assert source.schema.names == ["1", "x"]
    (fragment,) = source.fragments
    assert read_fragment(source, fragment, payload=source.payload(fragment))["1"].to_pylist() == [0, 0, 4]


# A row of JSON


JSON = st.one_of(
    st.none(), st.integers(-(2**40), 2**40), st.floats(allow_infinity=False), st.text(max_size=3), st.booleans()
)


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), JSON, min_size=1), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_rows_of_json_are_as_a_frame_of_them(rows: list[dict[str, Any]]) -> None:
    """The same values, or both are refused."""

    def made(data: Any) -> pa.Table | None:
        try:
            return tabular.to_table(data, "the data")
        except SourceError:
            return None

    found, frame = made(rows), made(pd.DataFrame(rows, dtype=object))
    assert (found is None) == (frame is None)
    if found is not None and frame is not None:
        assert found.to_pydict() == frame.to_pydict()
    if len(rows) == 1:
        assert made(rows[0]) == found


def test_single_values_and_columns() -> None:
    day = datetime.datetime(2020, 1, 1)
    row = {"a": 1, "b": "xy", "c": day, "d": decimal.Decimal("1.5"), "e": np.float32(2), "f": None, "g": {"h": 1}}
    assert tabular.to_table(row, "the data").to_pylist() == [row]
    assert tabular.to_table({"a": [1, 2], "b": 5}, "the data")["b"].to_pylist() == [5, 5]
    assert tabular.to_table({"a": 1, "tags": ["p", "q"]}, "the data", only={"a"}).num_rows == 1
    assert tabular.to_table([{}, {}], "the data").num_rows == 2


# The partitions of Dask collections


@given(st.lists(st.integers(0, 7), min_size=1, max_size=8), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_fragments_of_partitions_hold_each_row_once(sizes: list[int], step: int) -> None:
    """Whatever the partitions are, the same fragments."""
    rows = sum(sizes)
    held = CollectionPartitions(tuple(range(len(sizes))), pa.schema([])).counted(sizes)
    pieces = [pa.table({"x": pa.array(range(start, start + size))}) for start, size in _starts(sizes)]
    from pipeline.data.fragments import Fragment, Piece

    for first in range(0, rows, step):
        count = min(step, rows - first)
        parts = held.parts(Fragment(0, (Piece("x", None, None, count, 1, first_row=first),)))
        found = [value for part in parts for value in pieces[part.partition]["x"].to_pylist()[part.start : part.stop]]
        assert found == list(range(first, first + count))
        assert all(part.whole == (part.stop - part.start == sizes[part.partition]) for part in parts)


def _starts(sizes: list[int]) -> list[tuple[int, int]]:
    return [(sum(sizes[:place]), size) for place, size in enumerate(sizes)]


def test_partitions_are_cut_as_a_table_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from dask.dataframe import from_pandas

    from pipeline.data import fragments

    monkeypatch.setattr(fragments, "MIN_FRAGMENT_NBYTES", 1)
    given = pd.DataFrame({"x": np.arange(100.0), "s": ["a", "b"] * 50})
    table = open_source(given)
    assert len(table.fragments) > 5
    for partitions in (1, 3, 7):
        source = open_source(from_pandas(given, npartitions=partitions, sort=False))
        sizes = [int(one.rows or 0) for one in count_rows(source).fragments]
        cut = cut_by_rows(source, sizes, 64 << 20)
        assert [one.rows for one in cut.fragments] == [one.rows for one in table.fragments]
        for mine, its in zip(cut.fragments, table.fragments, strict=True):
            found = read_fragment(cut, mine, payload=computed(cut.payload(mine)))
            assert found.to_pydict() == read_fragment(table, its, payload=table.payload(its)).to_pydict()


def test_objects_and_unknown_categories_of_dask_frames_that_are_no_texts() -> None:
    """Texts are read; anything else is refused by name, for its type could only be guessed."""
    import dask
    from dask.dataframe import from_pandas

    def read(frame: Any, name: str) -> list[Any]:
        source = open_source(frame)
        (fragment,) = source.fragments
        return read_fragment(source, fragment, [name], computed(source.payload(fragment)))[name].to_pylist()

    days = [datetime.date(2020, 1, 1), None, datetime.date(2020, 1, 2)]
    given = pd.DataFrame({"day": days, "text": pd.Series(["a", None, "b"], dtype=object), "code": [3, 1, 3]})
    with dask.config.set({"dataframe.convert-string": False}):
        objects = from_pandas(given, npartitions=1)
    assert read(objects, "text") == ["a", None, "b"]
    with pytest.raises(SourceError, match=r"column 'day' holds date32.*astype\(\)"):
        read(objects, "day")
    unknown = objects.assign(code=objects.code.astype("category"), text=objects.text.astype("category"))
    assert read(unknown, "text") == ["a", None, "b"]
    with pytest.raises(SourceError, match=r"column 'code' holds dictionary<values=int64.*categorize\(\)"):
        read(unknown, "code")
    assert read(unknown.categorize(["code"]), "code") == [3, 1, 3]


def test_blocks_of_a_dask_array_are_whole_rows() -> None:
    array = dask_array.from_array(np.arange(24.0).reshape(8, 3), chunks=(3, 2))
    found = look_at(array, ["a", "b", "c"])
    assert found.rows == (3, 3, 2)
    source = open_source(array, names=["a", "b", "c"])
    assert source.rows == 8
    tables = [read_fragment(source, one, payload=computed(source.payload(one))) for one in source.fragments]
    assert pa.concat_tables(tables)["c"].to_pylist() == list(range(2, 24, 3))
