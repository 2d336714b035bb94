"""Reads the files of a model folder: nothing uses a byte before size and hash are those of the manifest."""

import hashlib
import os
from pathlib import Path

from pipeline.config.limited_file import read_limited
from pipeline.errors import ModelError
from pipeline.model.folder import BOOSTER, CUTS, METRICS, RECIPE
from pipeline.model.manifest import FileEntry

MIB = 2**20
LARGEST_MANIFEST = 64 * MIB  # a manifest of ten thousand columns takes 2 MiB
# The most that is read of a file, by its name or ending: far more than any real model needs.
LARGEST = {
    BOOSTER: 16_384 * MIB, RECIPE: 1024 * MIB, CUTS: 1024 * MIB, METRICS: 256 * MIB,
    ".html": 512 * MIB, ".png": 64 * MIB,
}  # fmt: skip
LARGEST_OTHER = 64 * MIB
BEGIN = b"{"
CHUNK = MIB


def _check_size(name: str, size: int, where: object) -> None:
    """ModelError for a file that is larger than its kind allows: its size is known before it is read."""
    limit = LARGEST.get(name, LARGEST.get(os.path.splitext(name)[1], LARGEST_OTHER))
    if size > limit:
        raise ModelError(f"{where}: {size:,} bytes; of such a file of a model at most {limit:,} are read")


def place_of(folder: Path, name: str, entry: FileEntry) -> Path:
    """The path of one file of the folder; ModelError where it is outside, missing, or has another size."""
    parts = name.split("/")
    outside = "\\" in name or "\0" in name or any(part in ("", ".", "..") or ":" in part for part in parts)
    path = folder.joinpath(*parts) if not outside else folder
    if outside or not _inside(path, folder):
        raise ModelError(f"{folder}: the manifest names a file outside the folder: {name!r}")
    if not path.is_file():
        raise ModelError(f"{folder}: damaged: {name} is missing")
    size = path.stat().st_size
    if size != entry.size:
        raise ModelError(f"{path}: damaged: {size} bytes, {entry.size} when it was written")
    _check_size(name, size, path)
    return path


def check(path: Path, entry: FileEntry) -> None:
    """ModelError where the bytes of a file are not those of the manifest; reads it in parts."""
    _compare(path, _hash_of(path, entry.size), entry)


def content_of(path: Path, entry: FileEntry) -> bytes:
    """The bytes of a file of UBJSON or JSON; ModelError where they are not those of the manifest."""
    content = read_document(path, entry.size)
    _compare(path, sha256_of(content), entry)
    return content


def _compare(path: Path, digest: str, entry: FileEntry) -> None:
    if digest != entry.sha256:
        raise ModelError(f"{path}: damaged: its SHA-256 is not the one it was written with")


def _inside(path: Path, folder: Path) -> bool:
    """Whether a path is inside the folder, after resolving links."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # circular links
        return False


def read_document(path: Path, limit: int) -> bytes:
    """The bytes of a file of UBJSON or JSON, of at most `limit` bytes."""
    content = read_limited(path, limit, "such a file of a model", ModelError, BEGIN)
    if not content.startswith(BEGIN):  # a huge file of zeros is cheap to create and to send
        raise ModelError(f"{path}: damaged: no JSON in it")
    return content


def _hash_of(path: Path, size: int) -> str:
    """The SHA-256 of a file of this size, reading it in parts."""
    digest, left = hashlib.sha256(), size + 1
    try:
        with open(path, "rb") as file:
            while left > 0 and (part := file.read(min(CHUNK, left))):
                digest.update(part)
                left -= len(part)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
