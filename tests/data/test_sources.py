"""Sources of every format, opened and read: the rows are those of the files, the types the same everywhere."""

import datetime
import decimal
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.utils import infer_storage_options
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.describe import describe
from pipeline.data.frames import computed
from pipeline.data.reading import count_rows, read_fragment
from pipeline.data.schema.hints import ColumnHints
from pipeline.data.schema.schema_merge import common, conform
from pipeline.data.source import Source, open_source
from pipeline.errors import SourceError
from pipeline.events.findings import findings


def read(source: Source, columns: list[str] | None = None) -> pa.Table:
    """All rows of a source, as tasks read them: without its fragments, and pickled."""
    task: Source = pickle.loads(pickle.dumps(source))
    tables = [read_fragment(task, item, columns, source.payload(item)) for item in source.fragments]
    for fragment, table in zip(source.fragments, tables, strict=True):
        assert fragment.rows in (None, table.num_rows)
        if columns is None:
            assert table.schema.equals(source.schema)
    return pa.concat_tables(tables)


def test_hive_folders(data: Path) -> None:
    source = open_source(str(data / "nycflights13"))
    assert source.rows == 336_776
    assert len(source.fragments) >= 12
    assert source.schema.field("month").type == pa.int64()
    assert source.hive == ("month",)
    table = read(source)
    months = table["month"].to_numpy()
    assert np.bincount(months)[1:].tolist() == [
        pq.read_metadata(data / f"nycflights13/month={month}/flights.parquet").num_rows for month in range(1, 13)
    ]
    first = pq.read_table(data / "nycflights13/month=1/flights.parquet", partitioning=None)
    assert table.slice(0, first.num_rows).drop(["month"]).equals(first.replace_schema_metadata(None))


def test_hive_keys_stay_texts_where_they_were(tmp_path: Path) -> None:
    """Folders zone=7 and zone=east are texts; zone=7 alone, to validate on or to predict, has to be one too."""
    for zone in ("7", "east"):
        (tmp_path / f"zone={zone}").mkdir()
        pq.write_table(pa.table({"a": [1]}), tmp_path / f"zone={zone}" / "p.parquet")
    types = open_source(str(tmp_path)).schema
    assert read(open_source(str(tmp_path / "zone=7")))["zone"].to_pylist() == [7]
    assert read(open_source(str(tmp_path / "zone=7"), hints=ColumnHints(types=types)))["zone"].to_pylist() == ["7"]


def test_drift_is_unified(data: Path) -> None:
    source = open_source(str(data / "green_taxi"))
    assert source.rows == 415_495
    assert source.schema.field("ehail_fee").type == pa.float64()
    assert source.schema.field("VendorID").type == pa.int64()
    assert source.schema.field("passenger_count").type == pa.float64()
    assert "store_and_fwd_flag" not in {item.column for item in source.drift}  # string and large_string are both text
    table = read(source)
    assert table.num_rows == 415_495
    assert table["ehail_fee"].null_count == 415_495


def test_null_columns_are_left_out_and_reported_once(data: Path) -> None:
    source = open_source(sorted(str(path) for path in (data / "green_taxi").glob("*2022*.parquet")))
    assert "ehail_fee" not in source.schema.names
    assert source.notes == ("left out, without any value: ehail_fee",)


def test_columns_by_name_and_order(data: Path) -> None:
    source = open_source(str(data / "nycflights13"))
    fragment = source.fragments[1]
    assert read_fragment(source, fragment, ["month", "origin"]).column_names == ["month", "origin"]
    for columns in (["month"], []):
        assert read_fragment(source, fragment, columns).num_rows == fragment.rows
    with pytest.raises(SourceError, match="no column 'nope'"):
        read_fragment(source, fragment, ["nope"])


def test_fingerprint_is_of_the_data_not_of_the_place(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2, 3]})
    for folder in ("x", "y", "z"):
        (tmp_path / folder).mkdir()
    pq.write_table(table, tmp_path / "x/p.parquet")
    pq.write_table(table, tmp_path / "y/p.parquet")
    pq.write_table(pa.table({"a": [1, 2, 4]}), tmp_path / "z/p.parquet")
    marks = [open_source(str(tmp_path / folder)).fingerprint for folder in "xyz"]
    assert marks[0] == marks[1] != marks[2]


def test_globs_lists_and_hidden_files(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        pq.write_table(pa.table({"name": [name]}), tmp_path / f"{name}.parquet")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / ".hidden.parquet").write_text("")
    names = lambda source: read(open_source(source))["name"].to_pylist()  # noqa: E731
    assert names(str(tmp_path)) == ["a", "b", "c"]
    assert names(str(tmp_path / "[ab]*.parquet")) == ["a", "b"]
    assert names([str(tmp_path / "c.parquet"), str(tmp_path / "a.parquet")]) == ["c", "a"]


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder of two files of three rows in all, with further names for both, and with itself inside."""
    folder = tmp_path / "days"
    (folder / "more").mkdir(parents=True)
    pq.write_table(pa.table({"a": [1, 2]}), folder / "part-0.parquet")
    pq.write_table(pa.table({"a": [3]}), folder / "more/part-1.parquet")
    (folder / "latest.parquet").symlink_to("part-0.parquet")
    (folder / "again").symlink_to(folder)
    (folder / "less").symlink_to("more")
    (tmp_path / "days of March").symlink_to("days")
    return folder


@pytest.mark.parametrize("pattern", [["."], ["**/*.parquet"], [".", "../days of March"], ["../days of March"]])
def test_a_file_of_several_names_is_read_once(linked: Path, pattern: list[str]) -> None:
    source = open_source([str(linked / item) for item in pattern])
    assert sorted(read(source)["a"].to_pylist()) == [1, 2, 3]
    (note,) = findings(source.notes)
    assert note.kind == "file_twice"
    assert (note.count or 0) >= 2
    assert str(note.where) in note.message
    assert "latest.parquet" not in str(source.files)  # a name without a link is the one that is kept


def test_links_to_other_folders_are_followed(linked: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "month=1").symlink_to(linked / "more")
    (other / "loop").symlink_to("month=1/../../other")
    source = open_source(str(other))
    assert read(source).to_pydict() == {"a": [3], "month": [1]}
    assert [note.count for note in findings(source.notes)] == [1]


def test_what_is_no_regular_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "a.parquet")
    os.mkfifo(tmp_path / "socket")
    (tmp_path / "notes").symlink_to(tmp_path / "nowhere")
    assert open_source(str(tmp_path)).rows == 2  # neither is meant as data
    os.mkfifo(tmp_path / "b.parquet")
    for source in (tmp_path, tmp_path / "b.parquet", tmp_path / "*.parquet"):
        with pytest.raises(SourceError, match=r"b\.parquet: not a regular file$"):
            open_source(str(source))


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").symlink_to("gone.parquet")
    for source in (tmp_path, tmp_path / "b.parquet"):
        with pytest.raises(SourceError, match=r"b\.parquet: a link to gone\.parquet, which does not exist$"):
            open_source(str(source), skip_bad=True)


def test_digests_show_which_file_is_another(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pq.write_table(pa.table({"a": [1, 2]}), tmp_path / f"{name}.parquet")
    before = open_source(str(tmp_path)).digests
    pq.write_table(pa.table({"a": [1, 3]}), tmp_path / "b.parquet")
    after = open_source(str(tmp_path)).digests
    assert list(after) == ["a.parquet", "b.parquet"]
    assert [name for name in after if after[name] != before[name]] == ["b.parquet"]


def test_memory_filesystem() -> None:
    filesystem = fsspec.filesystem("memory")
    for month in (1, 2):
        with filesystem.open(f"/reading/month={month}/p.parquet", "wb") as file:
            pq.write_table(pa.table({"a": [month * 10, month * 10 + 1]}), file, row_group_size=1)
    filesystem.pipe("/text/p.csv", b"a,b\n1,x\n2,y\n")
    source = open_source("memory://reading")
    assert read(source).to_pydict() == {"a": [10, 11, 20, 21], "month": [1, 1, 2, 2]}
    assert read(open_source("memory://reading/month=2/*.parquet"))["a"].to_pylist() == [20, 21]
    assert read(open_source("memory://text/p.csv")).to_pydict() == {"a": [1, 2], "b": ["x", "y"]}
    with pytest.raises(SourceError, match="memory://nowhere: no such file or folder"):
        open_source("memory://nowhere")


class HostFileSystem(MemoryFileSystem):
    """Memory behind host://, whose paths do not say on which server they are, like those of sftp, ftp and smb."""

    protocol = "host"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = False

    def __init__(self, host: str, **options: Any) -> None:
        super().__init__(**options)
        assert host == "server.example"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(infer_storage_options(path)["path"]).rstrip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        return {"host": infer_storage_options(path)["host"]}


def test_listings_keep_the_server_of_their_url() -> None:
    fsspec.register_implementation("host", HostFileSystem, clobber=True)
    filesystem = fsspec.filesystem("host", host="server.example")
    for month in (1, 2):
        filesystem.pipe(f"/data/month={month}/p.csv", b"a,b\n1,x\n2,y\n")
    found = "host://me:word@server.example/data/month=1/p.csv"
    for url in ("/data", "/data/", "/", "/data/*/*.csv", "/data/month=1/p.csv"):
        source = open_source(f"host://me:word@server.example{url}")
        assert source.files[0] == found
        assert read(source)["a"].to_pylist() == [1, 2] * len(source.files)
    assert len(source.files) == 1


def test_files_in_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("a", "b"):
            archive.writestr(f"in/{name}.csv", "a,b\n1,x\n")
    source = open_source(f"zip://in/*.csv::file://{tmp_path}/x.zip")
    assert list(source.files) == [f"zip://in/{name}.csv::file://{tmp_path}/x.zip" for name in ("a", "b")]
    assert read(source)["a"].to_pylist() == [1, 1]


TYPES = {
    "integer": pa.array([1, None, 3], pa.int16()),
    "unsigned": pa.array([1, None, 3], pa.uint64()),
    "float": pa.array([0.5, None, float("nan")], pa.float32()),
    "decimal": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("2.50")], pa.decimal128(5, 2)),
    "bool": pa.array([True, None, False]),
    "text": pa.array(["a", None, "b"]),
    "large": pa.array(["a", None, "b"], pa.large_string()),
    "dictionary": pa.array(["a", None, "b"]).dictionary_encode(),
    "date": pa.array([1, None, 3], pa.date32()),
    "time": pa.array([1, None, 3], pa.timestamp("us")),
    "zoned": pa.array([1, None, 3], pa.timestamp("ms", "Europe/Berlin")),
}


@pytest.mark.parametrize("ending", ["parquet", "feather"])
def test_types(tmp_path: Path, ending: str) -> None:
    table = pa.table(TYPES | {"empty": pa.nulls(3), "__index_level_0__": pa.array([0, 1, 2])})
    path = tmp_path / f"t.{ending}"
    pq.write_table(table, path) if ending == "parquet" else pa.feather.write_feather(table, path)
    source = open_source(str(path))
    assert source.schema.names == list(TYPES)
    assert source.schema.field("large").type == pa.string()
    assert source.schema.field("dictionary").type == pa.dictionary(pa.int32(), pa.string())
    found = read(source)
    for name, column in TYPES.items():
        want, have = column.to_pylist(), found[name].to_pylist()
        assert str(have) == str(want), name


def test_times_of_96_bits_beyond_2262_do_not_wrap_around(tmp_path: Path) -> None:
    """As Spark and Hive write them: in nanoseconds, 9999-12-31 would be a day of 1816."""
    times = [datetime.datetime(9999, 12, 31), datetime.datetime(1500, 1, 1), datetime.datetime(2020, 1, 1, 12, 30)]
    table = pa.table({"t": pa.array(times, pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "spark.parquet", use_deprecated_int96_timestamps=True, store_schema=False)
    source = open_source(str(tmp_path))
    assert source.schema.field("t").type == pa.timestamp("us")
    assert read(source)["t"].to_pylist() == times
    description = describe(source)
    assert (description.columns[0].minimum, description.columns[0].maximum) == (times[1], times[0])


NAIVE, ZONED = pa.timestamp("us"), pa.timestamp("us", "UTC")


@pytest.mark.parametrize("other", [NAIVE, pa.date32()])
def test_times_with_and_without_a_zone_are_never_mixed(tmp_path: Path, other: pa.DataType) -> None:
    pq.write_table(pa.table({"t": pa.array([1], ZONED)}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"t": pa.array([1], other)}), tmp_path / "2.parquet")
    with pytest.raises(SourceError, match=rf"2.parquet: column 't' is {re.escape(str(other))}.* here but .*tz=UTC"):
        open_source(str(tmp_path))
    with pytest.raises(SourceError, match=r"column .t. is .* with and without a zone"):  # partitions of a frame
        conform(pa.table({"t": pa.array([1], other)}), pa.schema([("t", ZONED)]), "<frame>")
    with pytest.raises(SourceError, match=r"column .t. is .* with and without a zone"):
        conform(pa.table({"t": pa.array([1], ZONED)}), pa.schema([("t", other)]), "<frame>")


def test_feather_batches_and_columns(tmp_path: Path) -> None:
    table = pa.table({"a": np.arange(1000), "b": [str(i) for i in range(1000)]})
    pa.feather.write_feather(table, tmp_path / "t.feather", chunksize=300)
    source = open_source(str(tmp_path), fragment_nbytes=2000)
    assert [fragment.rows for fragment in source.fragments] == [300, 300, 300, 100]
    assert read(source).equals(table)
    assert read_fragment(source, source.fragments[3], ["b"])["b"].to_pylist()[0] == "900"


def test_drifting_times_text_and_absent_columns(tmp_path: Path) -> None:
    pq.write_table(
        pa.table(
            {
                "t": pa.array([1], pa.timestamp("s", "UTC")),
                "d": pa.array([1], pa.date32()),
                "s": pa.array(["a"]).dictionary_encode(),
                "x": pa.array([decimal.Decimal("1.5")]),
            }
        ),
        tmp_path / "1.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "t": pa.array([1], pa.timestamp("us", "Asia/Tokyo")),
                "d": pa.array([2], pa.timestamp("ms")),
                "s": ["b"],
                "y": [2],
            }
        ),
        tmp_path / "2.parquet",
    )
    source = open_source(str(tmp_path))
    assert source.schema.field("t").type == pa.timestamp("us", "UTC")
    table = read(source)
    assert table["s"].to_pylist() == ["a", "b"]
    assert table["x"].to_pylist() == [decimal.Decimal("1.5"), None]
    assert table["y"].to_pylist() == [None, 2]
    assert [str(day)[:10] for day in table["d"].to_pylist()] == ["1970-01-02", "1970-01-01"]


def test_integers_that_a_float_cannot_hold_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [0.5]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [2**53 + 1]}), tmp_path / "2.parquet")
    source = open_source(str(tmp_path))
    with pytest.raises(
        SourceError, match=r"2\.parquet, row group 0: column 'a' holds int64 values that do not fit double"
    ):
        read(source)


def test_known_types_are_taken(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": pa.nulls(1)}), tmp_path / "1.parquet")
    (tmp_path / "1.csv").write_text("a,b\n1,\n")
    types = pa.schema([("a", pa.float64()), ("b", pa.string())])
    for name in ("1.parquet", "1.csv"):
        source = open_source(str(tmp_path / name), hints=ColumnHints(types=types))
        assert source.schema.equals(types)
        assert read(source).to_pydict() == {"a": [1.0], "b": [None]}


def test_arrow_tables(tmp_path: Path) -> None:
    table = pa.table({"a": np.arange(500_000), "b": pa.nulls(500_000)})
    source = open_source(table)
    again = open_source(pa.concat_tables([table.slice(0, 7), table.slice(7)]))
    assert source.fragments == again.fragments
    assert source.fingerprint == again.fingerprint
    assert len(source.fragments) > 1
    assert len(pickle.dumps(source)) < 10_000
    assert len(pickle.dumps(source.payload(source.fragments[0]))) < 1.5 * source.fragments[0].nbytes
    assert read(source)["a"].equals(table["a"])
    with pytest.raises(SourceError, match="payload"):
        read_fragment(source, source.fragments[0])


def test_dask_frames() -> None:
    import dask
    import dask.dataframe as dd
    import pandas as pd

    frame = dd.from_pandas(pd.DataFrame({"a": np.arange(10.0), "s": list("abcdefghij")}), npartitions=3)
    source = open_source(frame)
    assert source.format == "dask"
    assert source.rows is None
    assert source.schema.field("s").type == pa.string()
    with dask.config.set(scheduler="synchronous"):
        counted = count_rows(source)
        tables = [read_fragment(source, item, payload=computed(source.payload(item))) for item in source.fragments]
    assert counted.rows == 10
    assert pa.concat_tables(tables)["a"].to_pylist() == list(range(10))


KINDS = [
    pa.null(), pa.bool_(), pa.int8(), pa.int32(), pa.int64(), pa.uint8(), pa.uint32(), pa.uint64(), pa.float32(),
    pa.float64(), pa.decimal128(9, 2), pa.decimal128(30, 10), pa.string(), pa.date32(), pa.timestamp("s"),
    pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.timestamp("ms", "Asia/Tokyo"),
]  # fmt: skip


@given(st.sampled_from(KINDS), st.sampled_from(KINDS))
@settings(max_examples=400)
def test_common_types_do_not_depend_on_order(left: pa.DataType, right: pa.DataType) -> None:
    found = common(left, right)
    assert found == common(right, left)
    if found is not None:
        assert common(found, left) == common(found, right) == found
