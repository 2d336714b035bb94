"""Matrices when a worker is lost while they are built: finished and pending ones are used, lost ones are rebuilt."""

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import LocalCluster, get_worker

import pipeline
from pipeline.config.job import Job
from pipeline.data.synthetic.generator import generate
from pipeline.events import types as events
from pipeline.training import workset

LOG = "TEAM_TEST_LOG"  # a file that takes down each build; the worker's environment has its path
BUILD_SECONDS = 3.0  # longer than it takes to see that the other worker is gone


def slow_build(*args: Any) -> Any:
    """A matrix, slowly; worker 1 dies of its first."""
    worker, log = str(get_worker().name), Path(os.environ[LOG])
    first = worker not in log.read_text().split()
    with log.open("a") as file:
        file.write(f"{worker} ")
    if first and worker == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    if first:
        time.sleep(BUILD_SECONDS)
    return workset._build(*args)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("team") / "data"
    generate(folder, rows=40_000, files=4, seed=1)
    return folder


@pytest.fixture
def job(tmp_path: Path, data: Path) -> Job:
    return Job.parse(
        {
            "data": {"source": str(data), "target": "arr_delay", "fragment_mib": 1},
            "training": {"rounds": 5, "early_stopping": 0},
            "cluster": {"device": "cpu", "workers": 2, "threads": 1},
            "output": {"model": str(tmp_path / "model"), "report": False, "overwrite": True},
        }
    )


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Takes down which worker builds; to be there before the workers are."""
    path = tmp_path / "builds"
    path.touch()
    monkeypatch.setenv(LOG, str(path))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("source", ["files", "memory"])
def test_a_worker_lost_among_builds(
    source: str, job: Job, data: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows from memory go with the worker that has them: their blocks are no more, and sent again."""
    table = None
    if source == "memory":
        table = pa.concat_tables([pq.read_table(path) for path in sorted(data.glob("*.parquet"))])
        job = job.model_copy(update={"data": job.data.model_copy(update={"source": []})})
    with pipeline.connect(job) as client:
        undisturbed = pipeline.train(client, job, source=table).model.booster_bytes
        monkeypatch.setattr(workset, "_build", slow_build)
        result = pipeline.train(client, job, source=table)
    assert result.model.booster_bytes == undisturbed
    assert sorted(log.read_text().split()) == ["0", "1", "1"]  # what worker 0 was building has been of use
    assert "killed by signal 9" in result.summary["incidents"][0]


@pytest.mark.slow
def test_a_worker_that_is_back_at_its_old_address(job: Job) -> None:
    """As with `dask worker --worker-port`: it is another process, which has nothing of what the first one had."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        first = free.getsockname()[1]
    pids: dict[str, int] = {}
    killed: list[str] = []

    def kill(event: events.Event) -> None:
        if isinstance(event, events.RoundDone) and event.round >= 30 and not killed:
            killed.append(max(pids))
            os.kill(pids[killed[0]], signal.SIGKILL)

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0", worker_port=f"{first}:{first + 9}"
    ) as cluster:
        changes = {
            "cluster": job.cluster.model_copy(update={"scheduler": cluster.scheduler_address}),
            "training": job.training.model_copy(update={"rounds": 200, "checkpoint_rounds": 10}),
        }
        job = job.model_copy(update=changes)
        with pipeline.connect(job) as client:
            undisturbed = pipeline.train(client, job).model.booster_bytes
            pids = client.run(os.getpid)
            result = pipeline.train(client, job, listen=kill)
            now = client.run(os.getpid)
    assert result.model.booster_bytes == undisturbed
    assert now.keys() == pids.keys()
    assert now[killed[0]] != pids[killed[0]]
    lost, *_, again = result.summary["incidents"]
    assert "lost at round" in lost
    assert again.endswith("on 2 workers")
    account = result.summary["account"]
    assert account["worker_seconds"] < 2 * account["seconds"]  # no worker-seconds while one was away
    assert sum("before it was lost" in note for note in account["notes"]) == 1
    assert account["shares"]["remainder"] > -0.1  # nothing is counted twice, but for what the clocks differ
    assert account["stages"].get("recovery", {"other": 0})["other"] == 0
    assert result.summary["peak_memory_of"] == "this client alone"
