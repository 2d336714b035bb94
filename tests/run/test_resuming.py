"""Runs that end early and are resumed: the same model; another job or other data are refused."""

import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.config.job import Cluster, Job
from pipeline.errors import JobError, ModelError, OutputError, TrainingError
from pipeline.events import types as events
from pipeline.training import supervisor
from pipeline.training.checkpoint import CheckpointStore

ROWS = 4_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of rows with a target that takes many rounds to learn."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for number in range(4):
        x = rng.normal(size=(ROWS // 4, 4))
        y = np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] + rng.normal(size=len(x)) * 0.3
        pq.write_table(pa.table({**{f"x{i}": x[:, i] for i in range(4)}, "y": y}), folder / f"{number}.parquet")
    return folder


def job_of(folder: Path, out: Path, *settings: str) -> Job:
    table = {
        "data": {"source": str(folder), "target": "y", "validation": {"share": 0.25}},
        "training": {"rounds": 12, "row_sample": 0.7, "params": {"max_depth": 4}},
        "output": {"model": str(out), "report": False},
    }
    return Job.parse(table, settings=settings)


def restarts(heard: list[events.Event]) -> list[tuple[int, int]]:
    """(round, workers) of each."""
    return [(event.round, event.workers) for event in heard if isinstance(event, events.Restarted)]


def fail(*_: Any) -> Any:
    """Instead of the evaluation."""
    raise TrainingError("enough")


@pytest.fixture
def interrupted(make_cluster: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output folder of a run that ended after eight rounds; its checkpoint before has five."""
    with monkeypatch.context() as patch:
        patch.setattr(supervisor, "evaluate", fail)
        with pytest.raises(TrainingError, match="enough"):
            pipeline.train(make_cluster(2, 1), job_of(folder, tmp_path / "model", "training.rounds=5"))
        with pytest.raises(TrainingError, match="enough"):
            pipeline.train(
                make_cluster(2, 1), job_of(folder, tmp_path / "model", "training.rounds=8"), resume=tmp_path / "model"
            )
    assert not (tmp_path / "model").exists()
    assert CheckpointStore(tmp_path / "model").rounds() == [8, 5]
    return tmp_path / "model"


@pytest.mark.parametrize("layout", [(2, 1), (3, 1), (1, 2)])
@pytest.mark.parametrize("rounds", [12, 20])
def test_the_same_model(interrupted: Path, layout: Any, rounds: int, make_cluster: Any, folder: Path) -> None:
    client, more = make_cluster(*layout), f"training.rounds={rounds}"
    whole = pipeline.train(make_cluster(2, 1), job_of(folder, interrupted.with_name("whole"), more))
    heard: list[events.Event] = []
    resumed = pipeline.train(client, job_of(folder, interrupted, more), resume=interrupted, listen=heard.append)
    assert resumed.model.booster_bytes == whole.model.booster_bytes
    assert resumed.model.metrics["history"] == whole.model.metrics["history"]
    assert restarts(heard) == [(8, layout[0])]
    assert resumed.summary["incidents"] == []  # nothing has happened to this run
    assert not CheckpointStore(interrupted).folder.exists()


def test_early_stopping_ends_a_resumed_run_where_it_would_have(
    make_cluster: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, settings = make_cluster(2, 1), ["training.early_stopping=4", "training.params.eta=0.9"]
    whole = pipeline.train(client, job_of(folder, tmp_path / "whole", *settings, "training.rounds=400"))
    rounds, best = whole.summary["rounds"], whole.summary["best_round"]
    assert rounds == best + 4 < 400
    with monkeypatch.context() as patch:  # ends after the best round, while patience is running out
        patch.setattr(supervisor, "evaluate", fail)
        with pytest.raises(TrainingError, match="enough"):
            pipeline.train(client, job_of(folder, tmp_path / "model", *settings, f"training.rounds={best + 2}"))
    job = job_of(folder, tmp_path / "model", *settings, "training.rounds=400")
    heard: list[events.Event] = []
    resumed = pipeline.train(make_cluster(3, 1), job, resume=tmp_path / "model", listen=heard.append)
    assert restarts(heard) == [(best + 2, 3)]
    assert (resumed.summary["rounds"], resumed.summary["best_round"]) == (rounds, best)
    assert resumed.model.booster_bytes == whole.model.booster_bytes


@pytest.mark.slow
def test_interrupted_in_the_middle_of_its_rounds(make_cluster: Any, folder: Path, tmp_path: Path) -> None:
    client, settings = make_cluster(2, 1), ["training.early_stopping=0", "training.checkpoint_rounds=5"]

    def interrupt(event: events.Event) -> None:
        if isinstance(event, events.Checkpoint):
            raise TrainingError("enough")

    with pytest.raises(TrainingError, match="enough"):
        pipeline.train(
            client, job_of(folder, tmp_path / "model", *settings, "training.rounds=100000"), listen=interrupt
        )
    (reached, *_) = CheckpointStore(tmp_path / "model").rounds()
    more = [*settings, f"training.rounds={reached + 20}"]
    heard: list[events.Event] = []
    job = job_of(folder, tmp_path / "model", *more)
    resumed = pipeline.train(make_cluster(1, 2), job, resume=tmp_path / "model", listen=heard.append)
    whole = pipeline.train(client, job_of(folder, tmp_path / "whole", *more))
    assert restarts(heard) == [(reached, 1)]
    assert resumed.model.booster_bytes == whole.model.booster_bytes


def test_a_damaged_checkpoint_falls_back(interrupted: Path, make_cluster: Any, folder: Path) -> None:
    path = CheckpointStore(interrupted).path(8)
    path.write_bytes(path.read_bytes()[:-3])
    heard: list[events.Event] = []
    result = pipeline.train(make_cluster(2, 1), job_of(folder, interrupted), resume=interrupted, listen=heard.append)
    assert restarts(heard) == [(5, 2)]
    assert any("round-000008.checkpoint: damaged" in note for note in result.summary["notes"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["training.seed=5"], "this is not the run that was interrupted: training.seed was 0, now 5"),
        (["training.params.max_depth=3"], "training.params.max_depth was 4, now 3"),
        (["training.rounds=7"], "training.rounds = 7, but the checkpoint has 8: ask for at least as many"),
    ],
)
def test_another_job_is_refused(
    settings: list[str], said: str, interrupted: Path, make_cluster: Any, folder: Path
) -> None:
    with pytest.raises(JobError, match=said):
        pipeline.train(make_cluster(2, 1), job_of(folder, interrupted, *settings), resume=interrupted)
    assert CheckpointStore(interrupted).rounds() == [8, 5]


def test_other_data_are_refused(interrupted: Path, make_cluster: Any, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in sorted(folder.iterdir())[1:]:
        (other / file.name).write_bytes(file.read_bytes())
    (other / "3.parquet").write_bytes((folder / "0.parquet").read_bytes())
    with pytest.raises(JobError, match=r"the data differ: changed: 3\.parquet; removed: 0\.parquet$"):
        pipeline.train(make_cluster(2, 1), job_of(other, interrupted), resume=interrupted)


def test_starting_again_would_lose_it(interrupted: Path, make_cluster: Any, folder: Path) -> None:
    with pytest.raises(OutputError, match=r"holds round 8 of an interrupted run: resume it with --resume"):
        pipeline.train(make_cluster(2, 1), job_of(folder, interrupted))
    result = pipeline.train(make_cluster(2, 1), job_of(folder, interrupted, "output.overwrite=true"))
    assert result.summary["incidents"] == []
    assert not CheckpointStore(interrupted).folder.exists()


def test_nothing_to_resume(make_cluster: Any, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing to resume"):
        pipeline.train(make_cluster(2, 1), job_of(folder, tmp_path / "model"), resume=tmp_path / "model")


@pytest.mark.slow
def test_workers_that_join_are_used(folder: Path, tmp_path: Path, make_cluster: Any) -> None:
    long = ["training.rounds=800", "training.early_stopping=0", "training.checkpoint_rounds=10"]
    whole = pipeline.train(make_cluster(2, 1), job_of(folder, tmp_path / "whole", *long))
    with pipeline.connect(Cluster(device="cpu", workers=1, threads=1)) as client:

        def join(event: events.Event) -> None:
            if isinstance(event, events.MatrixDone) and client.cluster.plan == {0}:
                client.cluster.scale(2)
                client.wait_for_workers(2)

        job = job_of(folder, tmp_path / "joined", *long, "cluster.elastic=true")
        result = pipeline.train(client, job, listen=join)
    assert "worker 1 takes part from now on" in result.summary["incidents"]
    assert result.summary["workers"] == 2
    assert result.model.booster_bytes == whole.model.booster_bytes


@pytest.mark.slow
def test_ctrl_c_says_how_to_resume(folder: Path, tmp_path: Path) -> None:
    """In a process of its own, which is then started again as its last line says."""
    out = tmp_path / "model"
    command = [
        sys.executable, "-m", "pipeline", "train", str(folder), "--target", "y", "--rounds", "4000", "--workers", "2",
        "--threads", "1", "--no-report", "--set", "training.early_stopping=0", "--set", "training.checkpoint_rounds=5",
        "--set", "cluster.dashboard=false",
    ]  # fmt: skip
    process = subprocess.Popen(
        [*command, "--out", str(out)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    stop = threading.Event()

    def interrupt() -> None:
        store = CheckpointStore(out)
        while not store.rounds() and not stop.wait(0.02):
            pass
        os.killpg(process.pid, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    _, said = process.communicate(timeout=60)
    stop.set()
    thread.join()
    lines = said.splitlines()
    assert process.returncode == 130, said
    assert lines[-3] == "pipeline: interrupted"
    assert lines[-2] == f"pipeline: the last checkpoint is of round {CheckpointStore(out).rounds()[0]}"
    again = shlex.split(lines[-1].removeprefix("pipeline: resume with: "))
    assert again == ["pipeline", *command[3:], "--resume", str(out)]
    again[again.index("4000")] = str(CheckpointStore(out).rounds()[0] + 3)
    done = subprocess.run([sys.executable, "-m", *again], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "resuming from round" in done.stderr
    assert (out / "model.ubj").exists()
    assert not CheckpointStore(out).folder.exists()
