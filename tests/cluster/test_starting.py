"""A local cluster that cannot start: one line that says why, within a limit."""

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster import starting
from pipeline.cluster.child_processes import children, last_words, stderr_of_workers
from pipeline.config.job import Cluster
from pipeline.errors import ClusterError, ClusterStartError
from pipeline.run.connect import connect


def test_too_few_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (40, 50))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: given.append(limits))
    with pytest.raises(
        ClusterStartError, match=r"needs \d+ open files for 2 workers, and 50 are allowed \(ulimit -n\)"
    ):
        starting.check_resources(Cluster(workers=2))
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (40, 4096))
    starting.check_resources(Cluster(workers=2))
    ((soft, hard),) = given
    assert 40 < soft < hard == 4096  # raised as far as it has to be


def test_a_folder_for_workers_that_cannot_be_written() -> None:
    with pytest.raises(ClusterError, match=r"cluster.local_directory = /proc/x: not writable: "):
        starting.check_resources(Cluster(local_directory="/proc/x"))


def test_a_worker_that_ends_as_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    preload = tmp_path / "broken.py"
    preload.write_text("import os; os.write(2, b'Traceback ...\\nOSError: no space left\\n'); os._exit(7)")
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__PRELOAD", str(preload))
    import dask

    before = children()
    with (
        dask.config.set({"distributed.worker.preload": [str(preload)]}),
        pytest.raises(
            ClusterStartError,
            match=r"cannot start: a worker's process ended with code 7: OSError: no space left$",
        ),
    ):
        connect(Cluster(device="cpu", workers=1, threads=1)).__enter__()
    assert capfd.readouterr().err == ""
    assert children() == before


def test_a_cluster_that_does_not_start_in_time() -> None:
    import threading

    hung = threading.Event()
    with pytest.raises(ClusterStartError, match=r"did not start within 0 s: .*ulimit -u"):
        starting.start_within_limit(hung.wait, print, lambda: None, 0.0)  # type: ignore[arg-type]
    hung.set()


def test_the_reason_is_the_first_cause() -> None:
    error = RuntimeError("PlainNanny failed to start.")
    error.__cause__ = ModuleNotFoundError("No module named 'x'")
    said = starting.why(error, "", [-15])
    assert said == "the local cluster cannot start: ModuleNotFoundError: No module named 'x'"
    assert starting.why(error, "MemoryError", [-9]).endswith("a worker's process was killed by signal 9: MemoryError")


def test_last_words() -> None:
    with stderr_of_workers() as folder:
        assert folder is not None
        assert os.environ["PIPELINE_WORKER_STDERR"] == str(folder)
        assert last_words(folder) == ""
        (folder / "1").write_text("a\nb: c\n\n")
        assert last_words(folder) == "b: c"
    assert not folder.exists()
    assert "PIPELINE_WORKER_STDERR" not in os.environ
    assert last_words(None) == ""
