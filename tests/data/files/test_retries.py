"""Reads that fail for a passing reason are retried, with waits that are not slept here; others are not."""

import builtins
import errno
import itertools
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.data.files import retries, storage
from pipeline.data.files.retries import RetryPolicy, TransientReadError, failure, patiently, wait_seconds
from pipeline.data.reading import read_fragment
from pipeline.data.source import open_source
from pipeline.errors import AccessError, BadFragment, ReadError
from tests.data.flaky import FORMATS, FlakyFileSystem, Waits, flaky, put, table  # noqa: F401  a fixture

RESET = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

EIO = OSError(errno.EIO, "Input/output error")
ESTALE = OSError(errno.ESTALE, "Stale file handle")


class ServerError(Exception):
    """As aiohttp.ClientResponseError: no OSError."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status}, message='Busy'")
        self.status = status


class NetworkError(Exception):
    __module__ = "aiohttp.client_exceptions"


PASSING = [
    RESET,
    TimeoutError(),
    EIO,
    ESTALE,
    OSError("the server is not feeling well"),
    EOFError("Connection closed while reading"),
    ServerError(503),
    ServerError(429),
    NetworkError("Server disconnected"),
]
LASTING = [
    FileNotFoundError(errno.ENOENT, "No such file or directory"),
    PermissionError(errno.EACCES, "Permission denied"),
    IsADirectoryError(errno.EISDIR, "Is a directory"),
    OSError(errno.ENAMETOOLONG, "File name too long"),
    ValueError("embedded null byte"),
    ServerError(403),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_passing(error: Exception) -> None:
    assert isinstance(failure("/x", error), TransientReadError)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_lasting(error: Exception) -> None:
    found = failure("/x", error)
    assert isinstance(found, AccessError)
    assert str(found).startswith("/x: ")


def test_no_such_file_for_want_of_a_network() -> None:
    """What fsspec makes of any failure over HTTP."""
    for cause, kind in (
        (NetworkError("Cannot connect"), TransientReadError),
        (None, AccessError),
        (KeyError("404"), AccessError),
    ):
        error = FileNotFoundError("http://host/a.csv")
        error.__cause__ = cause
        assert isinstance(failure("http://host/a.csv", error), kind)


def test_memory_is_not_the_storage_s_fault() -> None:
    error = MemoryError()
    assert failure("/x", error) is error


class Read:
    """Fails so many times."""

    def __init__(self, times: int) -> None:
        self.times, self.calls = times, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise TransientReadError("Connection reset by peer")
        return "rows"


@pytest.mark.parametrize("times", [0, 1, 3])
def test_tried_again(times: int) -> None:
    waits, read = Waits(), Read(times)
    assert patiently(read, "/a.parquet", waits.patience()) == "rows"
    assert read.calls == times + 1
    assert len(waits) == times
    assert all(low <= wait < 1.5 * low for wait, low in zip(waits, (0.5, 1.0, 2.0), strict=False))


def test_last_try() -> None:
    waits, read = Waits(), Read(9)
    with pytest.raises(
        ReadError, match=r"^/a\.csv, bytes 4 to 9: cannot be read after 4 tries: Connection reset by peer$"
    ):
        patiently(read, "/a.csv, bytes 4 to 9", waits.patience())
    assert (read.calls, len(waits)) == (4, 3)


def test_waits_differ_by_place_and_not_by_run() -> None:
    patience = RetryPolicy()
    waits = {wait_seconds(patience, f"/a.parquet, row group {group}", 1) for group in range(50)}
    assert len(waits) == 50
    assert max(waits) - min(waits) > 0.2  # of 0.25: they spread
    assert wait_seconds(patience, "/a", 2) == wait_seconds(RetryPolicy(), "/a", 2)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_survives_faults_at_every_read(tmp_path: Path, flaky: type[FlakyFileSystem], name: str) -> None:  # noqa: F811
    source = open_source(put(name, tmp_path))
    whole = read_fragment(source, source.fragments[0])
    for place in itertools.count():  # the fault comes at the first read, the second, ...
        flaky.faults = [*[None] * place, RESET]
        waits = Waits()
        assert read_fragment(source, source.fragments[0], patience=waits.patience()).equals(whole)
        if flaky.faults:  # that many reads there are not
            break
        assert len(waits) == 1
    assert place >= 2
    assert whole.num_rows == table().num_rows


@pytest.mark.parametrize("name", FORMATS)
def test_storage_that_stays_away(tmp_path: Path, flaky: type[FlakyFileSystem], name: str) -> None:  # noqa: F811
    source = open_source(put(name, tmp_path))
    piece = source.fragments[0].pieces[0]
    flaky.faults = [RESET] * 100
    with pytest.raises(ReadError) as caught:
        read_fragment(source, source.fragments[0], patience=Waits().patience())
    assert str(caught.value).startswith(piece.place("record batch" if name == "a.feather" else "row group"))
    assert str(caught.value).endswith(": cannot be read after 4 tries: Connection reset by peer")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_sources_are_opened_patiently(
    tmp_path: Path,
    flaky: type[FlakyFileSystem],  # noqa: F811
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, waits = put(name, tmp_path), Waits()
    monkeypatch.setattr(retries, "RETRY_POLICY", waits.patience())
    flaky.faults = []
    expected = open_source(url)
    assert not waits
    for place in range(4):
        flaky.faults = [*[None] * place, RESET]
        assert open_source(url).fingerprint == expected.fingerprint
        assert flaky.faults or len(waits) == place + 1
    assert waits


@pytest.mark.parametrize("error", LASTING[:3], ids=repr)
def test_lasting_failures_are_not_tried_again(
    tmp_path: Path,
    flaky: type[FlakyFileSystem],  # noqa: F811
    error: Exception,
) -> None:
    source, waits = open_source(put("a.parquet", tmp_path)), Waits()
    flaky.faults = [error]
    with pytest.raises(AccessError, match=r"^flaky://a\.parquet: "):
        read_fragment(source, source.fragments[0], patience=waits.patience())
    assert not waits


def test_damage_is_not_tried_again(tmp_path: Path, flaky: type[FlakyFileSystem]) -> None:  # noqa: F811
    url = put("a.parquet", tmp_path)
    content = bytearray(flaky().cat_file("/a.parquet"))
    content[4:60] = b"\xff" * 56
    flaky().pipe_file("/a.parquet", bytes(content))
    source, waits = open_source(url), Waits()
    with pytest.raises(BadFragment):
        read_fragment(source, source.fragments[0], patience=waits.patience())
    assert not waits


@pytest.mark.parametrize("name", ["a.csv", "a.svm", "a.feather"])
def test_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    FORMATS[name](tmp_path / name)
    source, waits, faults = open_source(str(tmp_path / name)), Waits(), [EIO, ESTALE]

    def opened(*arguments: Any, **options: Any) -> Any:
        if faults:
            raise faults.pop()
        return builtins.open(*arguments, **options)

    monkeypatch.setattr(storage, "open", opened, raising=False)
    assert read_fragment(source, source.fragments[0], patience=waits.patience()).num_rows == table().num_rows
    assert len(waits) == 2


def test_local_parquet_goes_without_python_s_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FORMATS["a.parquet"](tmp_path / "a.parquet")
    source, waits, faults, whole = open_source(str(tmp_path)), Waits(), [EIO, ESTALE], pq.ParquetFile

    def opened(*arguments: Any, **options: Any) -> Any:
        if faults:
            raise faults.pop()
        return whole(*arguments, **options)

    monkeypatch.setattr(pq, "ParquetFile", opened)
    assert read_fragment(source, source.fragments[0], patience=waits.patience()).num_rows == table().num_rows
    assert len(waits) == 2


def test_real_input_output_errors_have_their_number() -> None:
    """Which distinguishes them from damage: Linux gives EIO for the unmapped first page of a process's memory."""
    import pyarrow as pa

    with pytest.raises(OSError, match="Input/output error") as caught:
        pa.OSFile("/proc/self/mem").read(1)
    assert caught.value.errno == errno.EIO
