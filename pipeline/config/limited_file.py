"""Reads a file from an untrusted source: at most the size such a file can have, and only the start if that is wrong."""

import os
import stat
from pathlib import Path

from pipeline.errors import UserError


def read_limited(path: Path, limit: int, what: str, error: type[UserError], begin: bytes = b"") -> bytes:
    """The bytes of a file of at most `limit` bytes; only the first bytes if it does not begin with `begin`.

    Raises `error`, which names the file and `what` it should be, where it is larger, cannot be read or exceeds memory.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            size = status.st_size
            if size > limit:
                raise error(f"{path}: {size:,} bytes, but at most {limit:,} bytes of {what} are read")
            most = size if stat.S_ISREG(status.st_mode) else limit  # a pipe does not report its size
            content = file.peek(len(begin))[: len(begin)]
            if content == begin:
                content = file.read(most + 1)
    except ValueError:  # a null character
        raise error(f"{path}: not the name of a file") from None
    except OSError as failed:
        raise error(f"{path}: cannot be read: {failed.strerror or failed}") from None
    except MemoryError:
        raise error(f"{path}: {size:,} bytes do not fit in this process's memory") from None
    if len(content) > limit:
        raise error(f"{path}: longer than the {limit:,} bytes that are read of {what}")
    return content
