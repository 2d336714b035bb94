"""Distinguishes URLs from local paths: outputs are local, URLs are for reading."""

import os
import re
from pathlib import Path

from pipeline.errors import OutputError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")  # also s3:/bucket, which Path makes of s3://bucket

LOCAL_ONLY = "outputs are written to local folders only: give a path, and copy the result to its URL afterwards"


def local_path(path: str | os.PathLike[str], setting: str = "") -> Path:
    """The local path of an output, ~ expanded; OutputError for a URL, which cannot be written.

    `setting`: the option or field that gave it, for the message.
    """
    text = os.fspath(path)
    if is_url(text):
        raise OutputError(f"{setting} {text}".lstrip() + f": {LOCAL_ONLY}")
    return Path(os.path.expanduser(text))


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether it is a URL, as a string or a `Path`.

    >>> is_url("s3://bucket/model"), is_url(Path("s3://bucket/model")), is_url("models/late"), is_url("./s3:/late")
    (True, True, False, False)
    """
    return _URL.match(os.fspath(path)) is not None
