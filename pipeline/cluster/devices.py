"""Resolves the device, CPU or GPU, once per run.  Importable is not usable, so an allocation is really tried."""

import ctypes
import functools
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from pipeline.errors import ClusterError

PROBE_SECONDS = 120  # the first contact with a GPU loads CUDA's libraries, seconds on a slow disk
EXTRA = "pip install 'dask-train-pipeline[cuda13]'"

# Runs in a separate process: a CUDA context would stay in this one, and cost hundreds of MB.
TRIAL = """
import json, cupy, xgboost
found = {"names": [], "nbytes": [], "xgboost": bool(xgboost.build_info().get("USE_CUDA"))}
for index in range(cupy.cuda.runtime.getDeviceCount()):
    with cupy.cuda.Device(index):
        assert int(cupy.arange(1024).sum()) == 523776
        properties = cupy.cuda.runtime.getDeviceProperties(index)
        found["names"].append(properties["name"].decode())
        found["nbytes"].append(int(properties["totalGlobalMem"]))
print(json.dumps(found))
"""


_PROBING = threading.Lock()


@dataclass(frozen=True)
class Gpus:
    """The GPUs this process may use."""

    count: int
    names: tuple[str, ...]
    total_nbytes: tuple[int, ...]  # memory of each
    reason_unusable: str | None  # None: all of them can be used


def probe_gpu() -> Gpus:
    """Returns the GPUs, and why they cannot be used; quick (under 10 ms) if there is no driver.

    Tries them once, also if two threads ask: one that plans and one that starts a cluster.
    """
    with _PROBING:
        return _probed()


@functools.cache
def _probed() -> Gpus:
    if reason := _missing():
        return Gpus(0, (), (), reason)
    return try_gpu()


def try_gpu(trial: str = TRIAL, seconds: float = PROBE_SECONDS) -> Gpus:
    """Returns the GPUs that a trial finds, and why they cannot be used: a Python program, ended after so many seconds."""
    command = [sys.executable, "-c", trial]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return Gpus(0, (), (), f"the GPU did not answer within {seconds} s")
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Gpus(0, (), (), f"the GPU cannot be used: {lines[-1]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    names, nbytes = tuple(found["names"]), tuple(found["nbytes"])
    reason = None if names else "no GPU is visible (see CUDA_VISIBLE_DEVICES)"
    if names and not found["xgboost"]:
        reason = "this build of XGBoost has no CUDA"
    return Gpus(len(names), names, nbytes, reason)


def _missing() -> str | None:
    """Returns what a GPU needs and this machine lacks, without starting anything."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1) on this machine"
    missing = [name for name in ("cupy", "dask_cuda") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed: {EXTRA}" if missing else None


def resolve_device(
    device: Literal["auto", "cpu", "cuda"], probe: Callable[[], Gpus] = probe_gpu
) -> Literal["cpu", "cuda"]:
    """Returns the device that a job gets.  ClusterError, with the reason, if it asks for a GPU that cannot be used."""
    if device == "cpu":
        return "cpu"
    gpus = probe()
    if gpus.reason_unusable is None:
        return "cuda"
    if device == "cuda":
        raise ClusterError(f"cluster.device = 'cuda': {gpus.reason_unusable}")
    return "cpu"


def without_gpu(device: Literal["auto", "cpu", "cuda"]) -> bool:
    """Returns whether a job surely gets the CPU: found out at once, no GPU is tried."""
    return device == "cpu" or (device == "auto" and _missing() is not None)


def array_namespace(device: Literal["cpu", "cuda"]) -> ModuleType:
    """Returns NumPy, or CuPy: the only place that imports CuPy."""
    if device == "cuda":
        import cupy

        return cupy
    import numpy

    return numpy


def synchronise(device: Literal["cpu", "cuda"]) -> None:
    """Waits until the GPU has done its work: call before a clock is stopped."""
    if device == "cuda":
        array_namespace(device).cuda.get_current_stream().synchronize()


def gpu_now() -> dict[str, float | None]:
    """Memory in use (bytes) and utilisation (0 to 1) of this process's first GPU, by NVML; None if unavailable."""
    from distributed.diagnostics import nvml

    try:
        now = nvml.real_time()
    except Exception:  # pynvml makes the classes of NVML's errors as it is loaded; none of them may end a training
        return {"gpu_memory_nbytes": None, "gpu_utilisation": None}
    used, busy = now["memory-used"], now["utilization"]
    return {"gpu_memory_nbytes": used, "gpu_utilisation": None if busy is None else busy / 100}
