"""A file system that fails when a test says so, and files of every format to read through it."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.data.files.retries import RetryPolicy

ROWS = 300


class FlakyFileSystem(MemoryFileSystem):
    """Memory behind flaky://, with ETags; `faults` are raised by the reads to come, None lets one through."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    faults: ClassVar[list[Exception | None]] = []
    etag: ClassVar[str | None] = None
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("flaky://", "memory://", 1))

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        told = super().info(path, **options)
        return told if self.etag is None else {**told, "ETag": self.etag}

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode != "rb":
            return super()._open(path, mode, **options)
        fail()
        return FlakyFile(self.cat_file(path))


class FlakyFile(io.BytesIO):
    """What the file system opens."""

    def read(self, size: int | None = -1) -> bytes:
        fail()
        return super().read(size)


def fail() -> None:
    """Raises the next fault."""
    fault = FlakyFileSystem.faults.pop(0) if FlakyFileSystem.faults else None
    if fault is not None:
        raise fault


@pytest.fixture
def flaky() -> Iterator[type[FlakyFileSystem]]:
    """The file system, empty and without faults."""
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    FlakyFileSystem.store.clear()
    FlakyFileSystem.faults = []
    FlakyFileSystem.etag = None
    yield FlakyFileSystem
    FlakyFileSystem.store.clear()
    FlakyFileSystem.faults = []


class Waits(list[float]):
    """Remembers how long one would have slept."""

    def patience(self) -> RetryPolicy:
        return RetryPolicy(sleep=self.append)


def table() -> pa.Table:
    return pa.table({"label": [float(i % 2) for i in range(ROWS)], "f1": [i * 7919 % 1000 / 4 for i in range(ROWS)]})


def parquet(path: Path) -> None:
    pq.write_table(table(), path, row_group_size=100)


def feather(path: Path) -> None:
    pa.feather.write_feather(table(), path, compression="lz4", chunksize=100)


def csv(path: Path) -> None:
    table().to_pandas().to_csv(path, index=False)


def svm(path: Path) -> None:
    rows = zip(*table().to_pydict().values(), strict=True)
    path.write_text("".join(f"{label} 1:{value}\n" for label, value in rows))


FORMATS: dict[str, Callable[[Path], None]] = {
    "a.parquet": parquet, "a.feather": feather, "a.csv": csv, "a.csv.gz": csv, "a.svm": svm
}  # fmt: skip


def put(name: str, folder: Path) -> str:
    """Writes a file of the format that its name says behind flaky://; gives its URL."""
    FORMATS[name](folder / name)
    fsspec.filesystem("flaky").pipe_file(f"/{name}", (folder / name).read_bytes())
    return f"flaky:///{name}"
