"""How a client's cluster was started, whoever started it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from distributed import Client, LocalCluster, SpecCluster

from pipeline.cluster.launchers import cuda
from pipeline.cluster.launchers.launched import launched


def client_of(cluster: Any) -> Client:
    return cast(Client, SimpleNamespace(cluster=cluster))


def local_cluster(**nannies: Any) -> LocalCluster:
    cluster = LocalCluster.__new__(LocalCluster)  # not started
    cluster.workers = nannies
    return cluster


def test_our_own_cluster(client: Client) -> None:
    start = launched(client)
    assert (start.local, start.device) == (True, "cpu")
    assert [worker.name for worker in start.workers()] == ["0", "1"]
    assert all((worker.memory_limit_nbytes or 0) > 0 for worker in start.workers())
    assert "cluster.memory" in start.more_memory


@pytest.mark.parametrize("cluster", [None, SpecCluster.__new__(SpecCluster)], ids=["a scheduler", "SSH or a queue"])
def test_workers_elsewhere_have_to_be_asked(cluster: Any) -> None:
    """SSHCluster and dask-jobqueue's clusters are a client's cluster too, but no processes of this machine."""
    start = launched(client_of(cluster))
    assert (start.local, start.device, start.workers()) == (False, None, [])
    assert "dask worker" in start.more_memory


def test_exit_codes() -> None:
    first = SimpleNamespace(exits={"tcp://a": 1, "tcp://b": -9}, memory_manager=SimpleNamespace(memory_limit=7))
    start = launched(client_of(local_cluster(first=first, of_the_user=SimpleNamespace())))
    assert [worker.name for worker in start.workers()] == ["first"]
    assert start.workers()[0].memory_limit_nbytes == 7
    assert start.exit_code("tcp://b") == -9
    assert start.exit_code("tcp://c") is None


def test_a_cluster_of_dask_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    class LocalCUDACluster(LocalCluster):
        pass

    monkeypatch.setitem(cuda.sys.modules, "dask_cuda", SimpleNamespace(LocalCUDACluster=LocalCUDACluster))
    cluster = LocalCUDACluster.__new__(LocalCUDACluster)
    assert launched(client_of(cluster)).device == "cuda"
    assert launched(client_of(local_cluster())).device == "cpu"
