"""Generates synthetic data of any size: the same rows for the same seed, a file at a time, in bounded memory.

A file's content is a function of (seed, its chunk) alone, so that files can be made anywhere and in any order.
"""

import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.urls import local_path
from pipeline.data.files.listing import cpu_count
from pipeline.data.synthetic import flights, numeric
from pipeline.errors import JobError, OutputError
from pipeline.events.types import EventHandler, FragmentDone, discard

Kind = Literal["flights", "numeric"]

FILE_NAME = re.compile(r"part-\d{5,}\.parquet")
CHUNK_ROWS = 125_000  # rows of a file unless the number of files is given; about 20 MB while it is made


@dataclass(frozen=True)
class Chunk:
    """The plan of one file."""

    kind: Kind
    seed: int
    index: int
    first_row: int  # rows in the files before it
    rows: int
    features: int = 28  # of "numeric"


@dataclass(frozen=True, repr=False)
class GenerateResult:
    """The result of `generate`."""

    folder: Path
    files: tuple[Path, ...]
    rows: int
    nbytes: int

    def __repr__(self) -> str:
        return f"<Generated {self.folder}: {self.rows:,} rows, {self.nbytes:,} bytes, {len(self.files):,} files>"


def plan_chunks(kind: Kind, rows: int, seed: int, files: int | None = None, features: int = 28) -> tuple[Chunk, ...]:
    """The files to write: `files` of them, all but the last of equal size, or one for every 125,000 rows.

    >>> [chunk.rows for chunk in plan_chunks("flights", rows=10, seed=0, files=3)]
    [4, 4, 2]
    """
    for name, value, least in (
        ("rows", rows, 1),
        ("seed", seed, 0),
        ("files", 1 if files is None else files, 1),
        ("features", features, 8),
    ):
        if value < least:
            raise JobError(f"{name} = {value}: expected at least {least}")
    if kind not in ("flights", "numeric"):
        raise JobError(f"kind = {kind!r}: expected flights or numeric")
    size = CHUNK_ROWS if files is None else math.ceil(rows / files)
    return tuple(
        Chunk(kind, seed, index, first, min(size, rows - first), features)
        for index, first in enumerate(range(0, rows, size))
    )


def make_table(chunk: Chunk) -> pa.Table:
    """The rows of one file."""
    make: Callable[[Chunk], pa.Table] = {
        "flights": lambda c: flights.make_flights(c.seed, c.index, c.first_row, c.rows),
        "numeric": lambda c: numeric.make_numeric(c.seed, c.index, c.rows, c.features),
    }[chunk.kind]
    return make(chunk)


def write_file(path: str | os.PathLike[str], chunk: Chunk) -> int:
    """Writes one file, whole or not at all; returns its rows."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        pq.write_table(make_table(chunk), temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return chunk.rows


def file_name(chunk: Chunk) -> str:
    return f"part-{chunk.index:05d}.parquet"


def generate(
    folder: str | os.PathLike[str],
    *,
    rows: int = 1_000_000,
    seed: int = 0,
    files: int | None = None,
    kind: Kind = "flights",
    features: int = 28,
    overwrite: bool = False,
    listen: EventHandler = discard,
) -> GenerateResult:
    """Writes a folder of Parquet files, in as many threads as there are cores; the folder appears when it is whole.

    OutputError where the folder exists (without `overwrite`, or with anything else in it) or cannot be written.
    """
    chunks = plan_chunks(kind, rows, seed, files, features)
    target = local_path(folder).absolute()
    if target.exists() and not overwrite:
        raise OutputError(f"{folder} exists already: choose another folder, or --overwrite")
    if target.exists() and not _is_generated(target):
        raise OutputError(f"{folder} holds something else; --overwrite would delete it: choose another folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sibling = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}") from None
    try:
        _write_all(sibling, chunks, listen)
        sibling.chmod(0o755)  # mkdtemp makes it private
        _swap(sibling, target)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(sibling, ignore_errors=True)
    written = tuple(target / file_name(chunk) for chunk in chunks)
    return GenerateResult(target, written, rows, sum(path.stat().st_size for path in written))


def _is_generated(path: Path) -> bool:
    """Whether the folder contains only files that `generate` writes: only such a folder is replaced."""
    return path.is_dir() and all(FILE_NAME.fullmatch(name) for name in os.listdir(path))


def _write_all(folder: Path, chunks: tuple[Chunk, ...], on_event: EventHandler) -> None:
    """Writes all files with threads: NumPy's generators and pyarrow's writer release the GIL."""
    with ThreadPoolExecutor(cpu_count()) as pool:
        futures = [pool.submit(write_file, folder / file_name(chunk), chunk) for chunk in chunks]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                on_event(FragmentDone(stage="generate", done=done, total=len(chunks), rows=future.result()))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _swap(new: Path, target: Path) -> None:
    """Puts `new` in the place of `target`; the old folder is removed only after `new` is in place."""
    if not target.exists():
        os.rename(new, target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    os.replace(target, old / target.name)
    os.rename(new, target)
    shutil.rmtree(old, ignore_errors=True)
