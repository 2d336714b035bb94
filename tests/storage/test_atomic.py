"""Files that are added to a folder: all of them, or none."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import OutputError, PipelineError
from pipeline.storage import atomic
from pipeline.storage.atomic import add_files

FILES = {"report.html": b"page", "pictures/a.png": b"a", "pictures/b.png": b"b", "manifest.json": b"new"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "manifest.json").write_bytes(b"old")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_added_and_replaced(folder: Path) -> None:
    add_files(folder, FILES)
    assert contents(folder) == FILES


def failing(error: BaseException) -> Callable[[Path, bytes], None]:
    """Writes two files, then fails in the middle of one."""
    write, written = atomic.write_file, []

    def fail(path: Path, content: bytes) -> None:
        if len(written) == 2:
            path.write_bytes(b"half")
            raise error
        write(path, content)
        written.append(path)

    return fail


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            PipelineError,
            "pictures/b.png: cannot be written: No space",
        ),
        (
            OSError(errno.EACCES, "Permission denied"),
            OutputError,
            "pictures/b.png: cannot be written: Permission denied",
        ),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_if_one_fails_none_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, raised: type[BaseException], said: str | None
) -> None:
    monkeypatch.setattr(atomic, "write_file", failing(error))
    with pytest.raises(raised, match=said):
        add_files(folder, FILES)
    assert [path.name for path in folder.rglob("*")] == ["manifest.json"]
    assert contents(folder) == {"manifest.json": b"old"}
