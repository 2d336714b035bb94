"""Folders and files on local disk: made with care, read plainly, and gone with the block, the run or the process."""

import gc
import os
import pickle
import re
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from distributed import get_worker

from pipeline.errors import OutputError, PipelineError
from pipeline.runtime.worker_session import session_of
from pipeline.storage import scratch, spill
from pipeline.storage.scratch import Scratch, memory_is_short, open_scratch, require_space, reserved_space
from pipeline.storage.spill import StoredArray

MIB = 2**20
OTHER = """
import sys
from pathlib import Path
import numpy as np
from pipeline.storage.scratch import Scratch
from pipeline.storage.spill import StoredArray
scratch = Scratch("other")
folder = scratch.open(Path(sys.argv[1]))
kept = StoredArray(np.zeros((1000, 10), np.uint8), folder, "rows")
print(folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run() -> Iterator[Scratch]:
    """The folders of one run."""
    run = Scratch(uuid.uuid4().hex)
    yield run
    run.close()


@pytest.fixture
def codes() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20_000, 7), dtype=np.uint8)


def other(root: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has a folder with a file in it, and lives until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_private_and_says_whose_it_is(tmp_path: Path, run: Scratch) -> None:
    folder = run.open(tmp_path / "deeper")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert re.fullmatch(rf"pipeline-scratch-[0-9a-f]{{32}}-{os.getpid()}-[0-9a-f]{{8}}", folder.name)
    assert run.open(tmp_path / "deeper") == folder
    run.close()
    assert not list((tmp_path / "deeper").iterdir())


def test_a_run_that_is_over_writes_nothing_more(tmp_path: Path, run: Scratch) -> None:
    run.open(tmp_path)
    run.close()
    with pytest.raises(PipelineError, match="is over"):
        run.open(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_process_that_was_killed_is_cleaned_up_after(tmp_path: Path, run: Scratch) -> None:
    process, theirs = other(tmp_path)
    assert list(theirs.iterdir())
    process.kill()
    process.communicate()
    assert theirs.exists()
    mine = run.open(tmp_path)
    assert sorted(tmp_path.iterdir()) == [mine, Path(f"{mine}.lock")]


def test_a_process_that_lives_keeps_its_own(tmp_path: Path, run: Scratch) -> None:
    process, theirs = other(tmp_path)
    run.open(tmp_path)
    assert len(list(theirs.iterdir())) == 1
    process.communicate("")  # it ends by itself, and tidies up
    assert process.returncode == 0
    assert not theirs.exists()


def test_a_process_that_is_gone_is_recognised_by_the_lock_alone(tmp_path: Path, run: Scratch) -> None:
    """Process ids of another container mean nothing here: the file name holds this container's id."""
    left = tmp_path / f"{scratch.PREFIX}before-{os.getpid()}-{int(psutil.Process().create_time() * 1000)}"
    left.mkdir()
    (left / "matrix").write_bytes(b"1")
    others = tmp_path / "something else"
    others.mkdir()
    run.open(tmp_path)
    assert not left.exists()
    assert others.exists()


def test_a_root_that_cannot_be_used_is_one_line(tmp_path: Path, run: Scratch) -> None:
    (tmp_path / "file").write_text("")
    said = r"file: scratch files cannot be written: it is a file, not a folder; see cluster\.scratch$"
    with pytest.raises(OutputError, match=said) as error:
        run.open(tmp_path / "file")
    assert "\n" not in str(error.value)
    with pytest.raises(OutputError, match=f"cannot be written: there is no folder {tmp_path / 'misspelled'}; see"):
        run.open(tmp_path / "misspelled" / "scratch")
    assert not (tmp_path / "misspelled").exists()


def test_space_is_looked_at_before(tmp_path: Path, codes: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = scratch.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda folder: usage._replace(free=3 * MIB))
    require_space(tmp_path, 3 * MIB, "these")
    with pytest.raises(OutputError, match="these take 9 MiB of scratch space, 3 MiB are free"):
        require_space(tmp_path, 9 * MIB, "these")
    with pytest.raises(OutputError, match="rows take 4 MiB of scratch space, 3 MiB are free"):
        StoredArray(np.zeros((MIB, 4), np.uint8), tmp_path, "rows")
    assert not list(tmp_path.iterdir())


def test_too_little_space_is_reported_in_numbers_that_differ(tmp_path: Path, run: Scratch) -> None:
    """And with the folder that the user named, not the one in it."""
    folder = run.open(tmp_path)
    with pytest.raises(OutputError, match=f"^{tmp_path}: these take 293 KiB of scratch space, 292 KiB are free"):
        require_space(folder, 300_001, "these", free=300_000)
    assert str(scratch.write_error(folder, OSError(28, "No space left on device"))).startswith(f"{tmp_path}: ")


def test_two_workers_do_not_count_on_the_same_room(tmp_path: Path, run: Scratch) -> None:
    """Each needs six of ten MiB; what the first has written already is counted once."""
    process, theirs = other(tmp_path)
    mine = run.open(tmp_path)
    with reserved_space(theirs / "matrix-1", 6 * MIB, "pages", free=10 * MIB):
        wanted = reserved_space(mine / "matrix-2", 6 * MIB, "pages", free=10 * MIB)
        with pytest.raises(OutputError, match="pages take 6 MiB of scratch space, 4 MiB are free"), wanted:
            pass
        (theirs / "matrix-1-pages").write_bytes(b"1" * 5 * MIB)
        with reserved_space(mine / "matrix-2", 4 * MIB, "pages", free=5 * MIB):
            assert sorted(path.name for path in mine.iterdir()) == ["matrix-2.reserved"]
        assert not list(mine.iterdir())
    process.communicate("")


def test_a_process_that_is_gone_needs_no_room(tmp_path: Path, run: Scratch) -> None:
    mine = run.open(tmp_path)
    process, theirs = other(tmp_path)
    with open(theirs / "matrix-1.reserved", "wb") as file:
        file.truncate(6 * MIB)
    process.kill()
    process.communicate()
    with reserved_space(mine / "matrix-2", 6 * MIB, "pages", free=10 * MIB):
        assert not theirs.exists()


def test_a_run_that_ends_tidies_up_after_workers_killed_in_it(tmp_path: Path, run: Scratch) -> None:
    run.open(tmp_path)
    process, theirs = other(tmp_path)
    process.kill()
    process.communicate()
    assert theirs.exists()
    run.close()
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_meanwhile_is_one_line_and_leaves_nothing(tmp_path: Path, codes: np.ndarray) -> None:
    """A limit of the process on a file's size replaces a full disk: the write fails half way."""
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        with pytest.raises(OutputError, match="scratch files cannot be written: File too large"):
            StoredArray(codes, tmp_path, "rows")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_an_array_in_a_file_reads_like_one_in_memory(tmp_path: Path, codes: np.ndarray) -> None:
    kept = StoredArray(codes, tmp_path, "rows")
    assert (len(kept), kept.shape, kept.dtype, kept.nbytes) == (len(codes), codes.shape, codes.dtype, codes.nbytes)
    rng = np.random.default_rng(1)
    choices: list[slice | np.ndarray] = [
        slice(None), slice(0), slice(5, 9), slice(19_990, None), np.arange(0), np.array([0, 3, 19_999]),
        np.flatnonzero(rng.random(len(codes)) < 0.3),
    ]  # fmt: skip
    for rows in choices:
        np.testing.assert_array_equal(kept[rows], codes[rows])
        for chunk_rows in (1, 64, 10**6):
            chunks = list(kept.chunks(rows, chunk_rows)) if chunk_rows > 1 or not isinstance(rows, slice) else []
            assert all(0 < len(chunk) <= chunk_rows for chunk in chunks)
            if chunks:
                np.testing.assert_array_equal(np.concatenate(chunks), codes[rows])
    np.testing.assert_array_equal(np.asarray(kept), codes)


def test_an_array_of_no_rows_has_a_file_too(tmp_path: Path) -> None:
    kept = StoredArray(np.empty((0, 3), np.uint8), tmp_path, "rows")
    assert kept[:].shape == (0, 3)


def test_its_file_is_private_and_goes_with_it(tmp_path: Path, codes: np.ndarray) -> None:
    kept = StoredArray(codes, tmp_path, "rows")
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert kept.path.stat().st_size == codes.nbytes
    del kept
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_it_travels_with_its_rows(tmp_path: Path, codes: np.ndarray) -> None:
    kept = StoredArray(codes, tmp_path, "rows")
    arrived = pickle.loads(pickle.dumps(kept))
    del kept
    assert isinstance(arrived, np.ndarray)
    np.testing.assert_array_equal(arrived, codes)


def test_a_file_that_was_cut_or_removed_is_reported(tmp_path: Path, codes: np.ndarray) -> None:
    kept = StoredArray(codes, tmp_path, "rows")
    os.truncate(kept.path, 1_000)
    with pytest.raises(PipelineError, match="ends at 1,000 of 140,000 bytes"):
        kept[:]
    kept.path.unlink()
    with pytest.raises(PipelineError, match="cannot be read again: No such file"):
        kept[:]


def test_reading_takes_no_map_and_little_memory(tmp_path: Path) -> None:
    """A memory map's pages would count in the RSS by which nannies end workers."""
    kept = StoredArray(np.ones((8 * MIB, 8), np.uint8), tmp_path, "rows")
    gc.collect()
    process, most = psutil.Process(), 0
    before = process.memory_info().rss
    total = 0
    for chunk in kept.chunks(slice(None)):
        total += int(chunk[:, 0].sum())
        most = max(most, process.memory_info().rss - before)
    assert total == 8 * MIB
    assert most < 6 * spill.CHUNK_NBYTES  # of 64 MiB
    assert str(kept.path) not in Path("/proc/self/maps").read_text()


def test_no_memory_limit_outside_a_worker() -> None:
    assert not memory_is_short()


def test_a_worker_is_short_by_its_own_limit_and_has_its_files_with_dasks(client: Any) -> None:
    def shortage() -> tuple[bool, bool]:
        share = psutil.Process().memory_info().rss / get_worker().memory_manager.memory_limit
        return memory_is_short(share * 0.9), memory_is_short(share * 1.5)

    def made() -> tuple[str, bool, str]:
        folder = open_scratch("a-run-with-files", None)
        there = folder.is_dir()
        session_of(get_worker()).close("a-run-with-files")
        return str(folder), there, get_worker().local_directory

    assert client.submit(shortage, pure=False).result() == (True, False)
    folder, there, local = client.submit(made, pure=False).result()
    assert there
    assert Path(folder).parent == Path(local)
    assert not Path(folder).exists()
