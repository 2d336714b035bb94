"""CPU or GPU: chosen once, refused with a reason."""

import functools

import numpy as np
import pytest

from pipeline.cluster.devices import Gpus, array_namespace, probe_gpu, resolve_device, try_gpu
from pipeline.cluster.launchers import cuda, layout, local
from pipeline.config.job import Cluster
from pipeline.errors import ClusterError
from pipeline.run.connect import connect
from pipeline.runtime.placement import placement

NONE = Gpus(0, (), (), "no NVIDIA driver here")
TWO = Gpus(2, ("A", "B"), (8 * 2**30, 8 * 2**30), None)


def test_cpu_never_asks() -> None:
    assert resolve_device("cpu", lambda: pytest.fail("asked")) == "cpu"
    assert array_namespace("cpu") is np


def test_auto_and_cuda() -> None:
    assert resolve_device("auto", lambda: NONE) == "cpu"
    with pytest.raises(ClusterError, match=r"cluster.device = 'cuda': no NVIDIA driver here"):
        resolve_device("cuda", lambda: NONE)
    assert resolve_device("auto", lambda: TWO) == resolve_device("cuda", lambda: TWO) == "cuda"


def test_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "resolve_device", functools.partial(resolve_device, probe=lambda: NONE))
    monkeypatch.setattr(local, "LocalCluster", lambda *args, **options: pytest.fail("started"))
    with pytest.raises(ClusterError, match="no NVIDIA driver here"), connect(Cluster(device="cuda")):
        pass


def test_probe_tells_what_the_trial_reported() -> None:
    old = try_gpu("raise RuntimeError('cudaErrorInsufficientDriver: too old')")
    assert old.reason_unusable == "the GPU cannot be used: RuntimeError: cudaErrorInsufficientDriver: too old"
    found = '{"names": ["A"], "nbytes": [7], "xgboost": %s}'
    assert try_gpu(f"print('''{found % 'true'}''')") == Gpus(1, ("A",), (7,), None)
    assert "XGBoost has no CUDA" in str(try_gpu(f"print('''{found % 'false'}''')").reason_unusable)
    none = try_gpu("""print('{"names": [], "nbytes": [], "xgboost": true}')""")
    assert "no GPU is visible" in str(none.reason_unusable)
    assert "did not answer" in str(try_gpu("import time; time.sleep(60)", seconds=0.2).reason_unusable)


def test_one_worker_per_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "probe_gpu", lambda: TWO)
    assert cuda.workers(Cluster()) == 2
    assert cuda.workers(Cluster(workers=1)) == 1
    with pytest.raises(ClusterError, match=r"cluster.workers = 3, but 2 GPUs"):
        cuda.workers(Cluster(workers=3))


def test_gpu_settings_reach_dask_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    given: dict[str, object] = {}
    fake = types.ModuleType("dask_cuda")
    fake.LocalCUDACluster = lambda **options: given.update(options)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dask_cuda", fake)
    section = Cluster(gpu_pool="20GiB", gpu_spill="30GiB")
    cuda.start(section, 2, 4, {"host": "127.0.0.1"})
    assert given == {
        "n_workers": 2,
        "threads_per_worker": 4,
        "rmm_pool_size": "20GiB",
        "device_memory_limit": "30GiB",
        "host": "127.0.0.1",
    }
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    with pytest.raises(ClusterError, match="dask_cuda cannot be imported"):
        cuda.start(section, 2, 4, {})


@pytest.mark.gpu
def test_cluster_of_gpus() -> None:
    section = Cluster(device="cuda", gpu_pool="1GiB")
    with connect(section) as client:
        where = placement(client, section)
        assert where.device == "cuda"
        assert len(where.workers) == probe_gpu().count
        seen = client.run(_visible)
        assert len(set(seen.values())) == len(where.workers)


def _visible() -> str:
    import os

    import cupy

    assert int(cupy.arange(10).sum()) == 45
    return os.environ["CUDA_VISIBLE_DEVICES"].split(",")[0]


_visible.__module__ = "__main__"  # workers do not have the tests: travels by value
