"""A file that is deleted, truncated or changed while a run reads it ends the run with one line that says so."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.formats import readers
from pipeline.data.fragments import Fragment
from pipeline.data.reading import read_fragment
from pipeline.data.source import Source, open_source
from pipeline.errors import AccessError, BadFragment
from tests.data.flaky import FORMATS, ROWS, FlakyFileSystem, Waits, flaky, put, table  # noqa: F401  a fixture

BEFORE_NS = 1_700_000_000_000_000_000
CHANGED = r"{}: changed during the run \(\d+ bytes now, \d+ when it began\)$"


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"1 1:1\n")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def rewrite(path: Path) -> None:
    """The same content, so the same size, at another time."""
    path.write_bytes(path.read_bytes())


CHANGES: dict[Callable[[Path], None], str] = {
    delete: r"{}: was deleted during the run$",
    truncate: CHANGED,
    empty: CHANGED,
    append: CHANGED,
    folder: r"{}: changed during the run",
    rewrite: r"{}: changed during the run \(\d+ bytes now as when it began, but written to since\)$",
}


def opened(path: Path, **options: Any) -> Source:
    """A source whose file was written long ago."""
    FORMATS[path.name](path)
    os.utime(path, ns=(BEFORE_NS, BEFORE_NS))
    return open_source(str(path), **options)


def failing(source: Source, message: str) -> None:
    waits = Waits()
    with pytest.raises(AccessError, match=message) as caught:
        read_fragment(source, source.fragments[0], patience=waits.patience())
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, BadFragment)  # which could be skipped
    assert not waits


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", FORMATS)
def test_changed_before_reading(tmp_path: Path, name: str, change: Callable[[Path], None]) -> None:
    source = opened(tmp_path / name, skip_bad=True)
    assert read_fragment(source, source.fragments[0]).num_rows == ROWS
    change(tmp_path / name)
    failing(source, rf"{name}{CHANGES[change].removeprefix('{}')}")


@pytest.mark.parametrize("change", [delete, truncate, rewrite], ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", FORMATS)
def test_changed_while_reading(
    tmp_path: Path, name: str, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, read = opened(tmp_path / name), readers.read

    def reading(*arguments: Any) -> pa.Table:
        table = read(*arguments)
        change(tmp_path / name)
        return table

    monkeypatch.setattr(readers, "read", reading)
    failing(source, CHANGES[change].format(name))


def test_only_the_file_that_was_changed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pq.write_table(table(), tmp_path / f"{name}.parquet")
    source = open_source(str(tmp_path))
    (fragment,) = source.fragments
    truncate(tmp_path / "b.parquet")
    failing(source, CHANGED.format("b.parquet"))
    assert read_fragment(source, Fragment(0, fragment.pieces[:1])).num_rows == ROWS


@pytest.mark.parametrize("change", [delete, append, rewrite], ids=lambda change: change.__name__)
def test_query_files_count(tmp_path: Path, change: Callable[[Path], None]) -> None:
    queries = tmp_path / "a.svm.query"
    queries.write_text("100\n200\n")
    os.utime(queries, ns=(BEFORE_NS, BEFORE_NS))
    source = opened(tmp_path / "a.svm")
    assert read_fragment(source, source.fragments[0])["query"].to_pylist() == [0] * 100 + [1] * 200
    change(queries)
    failing(source, CHANGES[change].format("a.svm.query"))


@pytest.mark.parametrize("name", FORMATS)
def test_urls(tmp_path: Path, flaky: type[FlakyFileSystem], name: str) -> None:  # noqa: F811
    flaky.etag = '"first"'
    source = open_source(put(name, tmp_path))
    assert read_fragment(source, source.fragments[0]).num_rows == ROWS
    flaky.etag = 'W/"first"'  # the same in another form
    assert read_fragment(source, source.fragments[0]).num_rows == ROWS
    flaky.etag = '"second"'
    failing(source, rf"{name}: changed during the run \(\d+ bytes now as when it began, but written to since\)$")
    flaky.etag = None  # no longer reported: only the size can be compared
    assert read_fragment(source, source.fragments[0]).num_rows == ROWS
    content = flaky().cat_file(f"/{name}")
    flaky().pipe_file(f"/{name}", content + b"\n")
    failing(source, CHANGED.format(name))
    flaky().rm_file(f"/{name}")
    failing(source, rf"{name}: was deleted during the run$")


def test_other_machines_may_have_copies(tmp_path: Path) -> None:
    """Of another time, as rsync makes them, but not of another size."""
    source = opened(tmp_path / "a.csv")
    (piece,) = source.fragments[0].pieces
    elsewhere = tuple(dataclasses.replace(stamp, machine="elsewhere") for stamp in piece.stamps)
    source = dataclasses.replace(source, fragments=(Fragment(0, (dataclasses.replace(piece, stamps=elsewhere),)),))
    rewrite(tmp_path / "a.csv")
    assert read_fragment(source, source.fragments[0]).num_rows == ROWS
    append(tmp_path / "a.csv")
    failing(source, CHANGED.format("a.csv"))


@pytest.mark.parametrize("name", FORMATS)
def test_the_fingerprint_knows_no_time(tmp_path: Path, name: str) -> None:
    source = opened(tmp_path / name)
    (tmp_path / "copy").mkdir()
    shutil.copyfile(tmp_path / name, tmp_path / "copy" / name)
    copy = open_source(str(tmp_path / "copy" / name))
    assert copy.fragments[0].pieces[0].stamps != source.fragments[0].pieces[0].stamps
    assert copy.fingerprint == source.fingerprint


def test_neighbours_are_still_joined(tmp_path: Path) -> None:
    """Row groups of one file are one piece, with one stamp; tables in memory have none."""
    source = opened(tmp_path / "a.parquet")
    (piece,) = source.fragments[0].pieces
    assert piece.row_groups == (0, 1, 2)
    assert [stamp.path for stamp in piece.stamps] == [str(tmp_path / "a.parquet")]
    assert open_source(table()).fragments[0].pieces[0].stamps == ()
