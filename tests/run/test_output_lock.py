"""Where a run writes: mistakes are reported before anything is started, and two runs never write to one place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import JobError, ModelError, OutputError, UserError
from pipeline.run.output_lock import LOCK, check_output_dir, lock_output_dir, prepare_output_dir
from pipeline.training.checkpoint import CheckpointStore

HOLD = """
import sys, time
from pathlib import Path
from pipeline.run.output_lock import lock_output_dir
with lock_output_dir(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The output folder of a run that was interrupted after 8 rounds."""
    store = CheckpointStore(tmp_path / "late")
    store.folder.mkdir()
    store.path(8).write_bytes(b"")
    return store.model


def finished(model: Path) -> Path:
    model.mkdir()
    (model / "manifest.json").write_text('{"rounds": 600}')
    (model / "model.ubj").write_bytes(b"")
    return model


def test_what_may_begin(model: Path, tmp_path: Path) -> None:
    assert prepare_output_dir(model, resume=True, overwrite=False) == model
    assert prepare_output_dir(model, resume=False, overwrite=True) == model
    assert prepare_output_dir(tmp_path / "other", resume=False, overwrite=False) == tmp_path / "other"


def test_another_run_would_lose_the_checkpoints(model: Path) -> None:
    with pytest.raises(OutputError, match="holds round 8 of an interrupted run: resume it with --resume"):
        prepare_output_dir(model, resume=False, overwrite=False)


def test_a_run_that_still_works_on_it_is_not_called_interrupted(model: Path) -> None:
    with (
        lock_output_dir(model),
        pytest.raises(OutputError, match=f"process {os.getpid()} on .* is writing to it"),
    ):
        prepare_output_dir(model, resume=False, overwrite=False)


def test_a_finished_run_is_not_resumed(tmp_path: Path) -> None:
    model = finished(tmp_path / "late")
    for overwrite in (False, True):
        with pytest.raises(
            JobError,
            match=r"late: this run is finished \(600 rounds\): nothing to resume; to train for more rounds, .* --out, or --overwrite$",
        ):
            prepare_output_dir(model, resume=True, overwrite=overwrite)
    (model / "manifest.json").write_text("[]")
    with pytest.raises(JobError, match=r"this run is finished: nothing to resume; to train for more"):
        prepare_output_dir(model, resume=True, overwrite=False)


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"late: nothing to resume: no checkpoint in .*late\.checkpoints"):
        prepare_output_dir(tmp_path / "late", resume=True, overwrite=False)


@pytest.mark.parametrize("given", ["late.checkpoints", "late.checkpoints/round-000008.checkpoint"])
def test_the_checkpoints_instead_of_the_model(given: str, model: Path) -> None:
    with pytest.raises(JobError, match=f"did you mean --resume {model}\\?$"):
        prepare_output_dir(model.parent / given, resume=True, overwrite=False)


def test_one_run_at_a_time(model: Path) -> None:
    with lock_output_dir(model):
        said = f"late: process {os.getpid()} on .* is writing to it"
        with pytest.raises(OutputError, match=said), lock_output_dir(model):
            pass
        with pytest.raises(OutputError, match=said):
            check_output_dir(model, resume=True, overwrite=False)
    check_output_dir(model, resume=True, overwrite=False)
    assert [path.name for path in CheckpointStore(model).folder.iterdir()] == ["round-000008.checkpoint"]


def test_nothing_is_left_where_nothing_was(tmp_path: Path) -> None:
    model = tmp_path / "models" / "late"
    with lock_output_dir(model):
        assert (CheckpointStore(model).folder / LOCK).exists()
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_free(model: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(model)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match=f"process {process.pid} on"), lock_output_dir(model):
            pass
        process.kill()
    assert (CheckpointStore(model).folder / LOCK).exists()
    with lock_output_dir(model):
        pass


def test_a_link_in_the_lock_s_place_is_not_followed(model: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (CheckpointStore(model).folder / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(UserError), lock_output_dir(model):
        pass
    assert (tmp_path / "precious").read_text() == "precious"
