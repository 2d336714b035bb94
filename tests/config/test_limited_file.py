"""No more of a file is read than such a file can have."""

import os
import threading
from pathlib import Path

import pytest

from pipeline.config.limited_file import read_limited
from pipeline.errors import ModelError


def test_a_file_within_the_limit_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"magic rest")
    assert read_limited(path, 10, "a file", ModelError) == b"magic rest"
    assert read_limited(path, 10, "a file", ModelError, b"magic ") == b"magic rest"
    assert read_limited(path, 10, "a file", ModelError, b"other") == b"magic"


def test_what_is_larger_or_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(11))
    with pytest.raises(ModelError, match=r"x: 11 bytes, but at most 10 bytes of a file are read"):
        read_limited(path, 10, "a file", ModelError)
    with pytest.raises(ModelError, match=r"y: cannot be read: No such file or directory"):
        read_limited(tmp_path / "y", 10, "a file", ModelError)
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        read_limited(tmp_path, 10, "a file", ModelError)
    with pytest.raises(ModelError, match=r"x00x: not the name of a file"):
        read_limited(tmp_path / "\0x", 10, "a file", ModelError)


@pytest.mark.parametrize("nbytes", [10, 11])
def test_a_pipe_does_not_report_its_size(tmp_path: Path, nbytes: int) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(bytes(nbytes),), daemon=True)
    writer.start()
    if nbytes == 10:
        assert read_limited(path, 10, "a file", ModelError) == bytes(10)
    else:
        with pytest.raises(ModelError, match="pipe: longer than the 10 bytes that are read of a file"):
            read_limited(path, 10, "a file", ModelError)
    writer.join()
