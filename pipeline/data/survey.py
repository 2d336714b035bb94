"""What one file says about itself before its rows are read: what every format's survey gives."""

import hashlib
from dataclasses import dataclass

import pyarrow as pa

from pipeline.data.files import File, read_range
from pipeline.data.fragments import Piece

END_NBYTES = 64 << 10


@dataclass(frozen=True)
class Surveyed:
    """One file: its columns, and the smallest pieces that can be read alone."""

    file: File
    schema: pa.Schema
    pieces: tuple[Piece, ...]
    digest: bytes  # of what the file says about its data, for the source's fingerprint


def ends_digest(file: File) -> bytes:
    """SHA-256 of the file's first and last 64 KiB: with the size, a quick mark of what is in it."""
    digest = hashlib.sha256(read_range(file.path, 0, END_NBYTES))
    digest.update(read_range(file.path, max(END_NBYTES, file.nbytes - END_NBYTES), file.nbytes))
    return digest.digest()
