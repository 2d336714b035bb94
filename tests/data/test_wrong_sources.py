"""An error about files is one line that names the file, the column or line, and no value."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from pipeline.config.job import CsvOptions
from pipeline.data.reading import read_fragment
from pipeline.data.schema.hints import ColumnHints
from pipeline.data.source import open_source
from pipeline.errors import SourceError

SECRET = "s3cret"


def parquet(folder: Path, **columns: object) -> None:
    pq.write_table(pa.table(columns), folder / f"{len(list(folder.iterdir()))}.parquet")


def truncated(folder: Path) -> None:
    parquet(folder, a=list(range(1000)))
    path = folder / "0.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def drift(folder: Path) -> None:
    parquet(folder, a=[1])
    parquet(folder, a=["x"])


def text(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "t.csv").write_bytes(content) and None


def file(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def mixed(folder: Path) -> None:
    parquet(folder, a=[1])
    (folder / "t.csv").write_text("a\n1\n")


def short_feather(folder: Path) -> None:
    pa.feather.write_feather(pa.table({"a": [1]}), folder / "t.feather")
    (folder / "t.feather").write_bytes((folder / "t.feather").read_bytes()[:-20])


LATE = b"a,b\n" + b"1,2\n" * 9 + b"1,2,%s\n" % SECRET.encode()
WRONG = {
    "an empty folder": lambda folder: None,
    "0.parquet: not a Parquet file": file("0.parquet", b"hello, this is no Parquet"),
    "0.parquet: an empty file, not Parquet": file("0.parquet", b""),
    "0.parquet: truncated Parquet file: it ends after [0-9]+ bytes without a footer": truncated,
    "column 'a' is string here but int64 in .*0.parquet; no type holds both": drift,
    r"0.parquet: column 'n' is nested: list<.*>; leave it out with data.exclude": lambda f: parquet(f, n=[[1]]),
    r"column 's' is nested: struct": lambda f: parquet(f, s=[{"x": 1}]),
    r"column 'b' has a type that cannot be used: binary": lambda f: parquet(f, b=[b"x"]),
    "no column with a value in it": lambda f: parquet(f, a=pa.nulls(2)),
    "0.parquet: no rows": lambda f: parquet(f, a=pa.array([], pa.int64())),
    "t.csv: line 11: 3 values where 2 columns are": text(LATE),
    "t.csv.gz: line 11: 3 values where 2 columns are": file("t.csv.gz", gzip.compress(LATE)),
    "t.csv: line 3: not UTF-8 text; convert": text(b"a,b\n1,x\n2,\xe9\n"),
    "t.csv: line 4: not UTF-8 text; convert": text(b"a,b\n1,x\n\n2,\xe9,3\n"),
    "t.csv: UTF-16 text": text("a,b\n1,x\n".encode("utf-16")),
    "t.csv: an empty file": text(b""),
    "t.csv: no column with a value": text(b"a,b\n"),
    "t.csv: two columns are named 'a'": text(b"a,a\n1,2\n"),
    "t.csv: two columns are named 'column 2'": text(b"a,,column 2\n1,2,3\n"),
    "t.csv.gz: damaged file": file("t.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 5000)[:-30]),
    "t.feather: not a whole Feather file": short_feather,
    "t.svm: line 2: expected `label index:value": file("t.svm", b"1 1:2\n0 1:2 3\n"),
    "t.svm: line 1: a label that is no number": file("t.svm", b"x 1:2\n"),
    "t.svm: line 2: an index that is no number": file("t.svm", b"1 1:2\n0 x:2\n"),
    "t.svm: line 3: an index twice in one row": file("t.svm", b"# x\n1 1:2\n0 3:1 1:2 3:4\n"),
    "t.svm: line 2: a negative index": file("t.svm", b"1 1:2\n0 -1:2\n"),
    "t.svm: line 2: no qid, or two, where other rows": file("t.svm", b"1 qid:1 1:2\n0 1:2\n"),
    "CSV and Parquet files together; choose one with data.format": mixed,
    "no Parquet, CSV, Feather or LIBSVM files by their endings": file("notes.txt", b"hello"),
}


def read_everything(path: str) -> None:
    source = open_source(path)
    for fragment in source.fragments:
        read_fragment(source, fragment)


@pytest.mark.parametrize("message", WRONG)
def test_one_line(tmp_path: Path, message: str) -> None:
    WRONG[message](tmp_path)
    with pytest.raises(SourceError, match=message) as caught:
        read_everything(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere", "no*where.parquet", "nowhere/x.csv"])
def test_no_such_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=r"no such file or folder|no file matches"):
        open_source(str(tmp_path / name))


def test_twice(tmp_path: Path) -> None:
    parquet(tmp_path, a=[1])
    with pytest.raises(SourceError, match="given twice"):
        open_source([str(tmp_path), str(tmp_path / "0.parquet")])
    with pytest.raises(SourceError, match="empty list"):
        open_source([])


def test_nested_columns_can_be_left_out(tmp_path: Path) -> None:
    parquet(tmp_path, a=[1], nested=[[1]], raw=[b"x"])
    assert open_source(str(tmp_path), exclude=["nes*", "raw"]).schema.names == ["a"]


def test_damaged_pages(tmp_path: Path) -> None:
    parquet(tmp_path, a=[f"{i * 7919 % 1000}" for i in range(5000)])
    path = tmp_path / "0.parquet"
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36
    path.write_bytes(bytes(content))
    source = open_source(str(tmp_path))
    with pytest.raises(SourceError, match=r"0\.parquet, row group 0: damaged Parquet file"):
        read_fragment(source, source.fragments[0])


def test_file_gone_between_opening_and_reading(tmp_path: Path) -> None:
    parquet(tmp_path, a=[1])
    source = open_source(str(tmp_path))
    (tmp_path / "0.parquet").unlink()
    with pytest.raises(SourceError, match=r"0\.parquet: was deleted during the run"):
        read_fragment(source, source.fragments[0])


def test_ragged_line_is_named_in_any_byte_range(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"# x\na,b\n" + b"1,2\n" * 500 + b"1\n" + b"1,2\n" * 500)
    for target in (100, 5000, 1 << 20):
        with pytest.raises(SourceError, match=r"t\.csv: line 503: 1 values where 2 columns are"):
            open_source(str(tmp_path), csv=CsvOptions(comment="#"), fragment_nbytes=target)


def test_texts_that_are_not_of_the_known_type(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"a,b\n1,2\n1,{SECRET}\n")
    source = open_source(str(tmp_path), hints=ColumnHints(types=pa.schema([("a", pa.int64()), ("b", pa.float64())])))
    with pytest.raises(
        SourceError, match=r"t\.csv, bytes 4 to 17: line 3: column 'b' holds values that are not double$"
    ):
        read_fragment(source, source.fragments[0])


def test_header_and_names_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("1,2,3\n")
    with pytest.raises(SourceError, match=r"2 names in data\.csv\.columns, but 3 values in the first row"):
        open_source(str(tmp_path), csv=CsvOptions(header=False, columns=["a", "b"]))


def test_open_quote(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + '1,"x\ny"\n' * 100)
    with pytest.raises(SourceError, match="newlines_in_quotes = true"):
        open_source(str(tmp_path), fragment_nbytes=97)


def test_pandas_frames_that_are_no_table_are_refused():
    import pandas as pd

    with pytest.raises(SourceError, match="<table>: two columns are named 'a'"):
        open_source(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(SourceError, match="<table>: column 'a' holds Python objects") as caught:
        open_source(pd.DataFrame({"a": ["secret", 3, b"x"]}))
    assert "secret" not in str(caught.value)


def test_texts_and_names_that_are_not_utf_8(tmp_path: Path) -> None:
    wrong = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xe9")]
    )
    for folder, write in (("parquet", pq.write_table), ("feather", pa.feather.write_feather)):
        (tmp_path / folder).mkdir()
        write(pa.table({"n": [1, 2], "c": wrong}), tmp_path / folder / f"0.{folder}")
        with pytest.raises(SourceError, match=rf"0\.{folder}.*: (column 'c' holds text that is not UTF-8|damaged)"):
            read_everything(str(tmp_path / folder))
        (tmp_path / f"name {folder}").mkdir()
        path = tmp_path / f"name {folder}" / f"0.{folder}"
        write(pa.table({"name": [1, 2]}), path)
        path.write_bytes(path.read_bytes().replace(b"name", b"n\xe9me"))
        with pytest.raises(SourceError, match=rf"0\.{folder}.*: .*damaged"):
            read_everything(str(tmp_path / f"name {folder}"))


def test_feather_whose_offsets_lead_elsewhere(tmp_path: Path) -> None:
    table = pa.table({"c": ["abc", "de", "fghi"] * 9})
    pa.feather.write_feather(table, tmp_path / "0.feather", compression="uncompressed")
    content = bytearray((tmp_path / "0.feather").read_bytes())
    offsets = table.column(0).chunk(0).buffers()[1].to_pybytes()[:40]
    place = content.index(offsets)
    content[place + 8 : place + 12] = (2**31 - 1).to_bytes(4, "little")
    (tmp_path / "0.feather").write_bytes(bytes(content))
    with pytest.raises(SourceError, match=r"0\.feather.*: damaged Feather file"):
        read_everything(str(tmp_path))


def test_query_files_of_numbers_beyond_all_bounds(tmp_path: Path) -> None:
    (tmp_path / "t.svm").write_text("1 1:1\n")
    (tmp_path / "t.svm.query").write_text(f"{10**30}\n")
    with pytest.raises(SourceError, match=r"t\.svm\.query: expected one whole number"):
        open_source(str(tmp_path / "t.svm"))
