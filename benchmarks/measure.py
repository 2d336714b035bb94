"""Measures a command from outside: wall time, CPU time and peak memory of all its processes."""

import contextlib
import ctypes
import resource
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

INTERVAL_SECONDS = 0.1
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True)
class Cost:
    """Cost of one run of a command."""

    wall_seconds: float
    cpu_seconds: float  # user and system, of every process it started
    peak_pss_nbytes: int  # highest sum over its processes of their proportional set size
    peak_gpu_nbytes: int  # of all visible GPUs above what was in use before; 0 without one
    memory_samples: int
    exit_code: int
    stdout: str = field(repr=False)
    stderr: str = field(repr=False)


def run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> Cost:
    """Runs a command to its end and measures it; kills processes that outlive it."""
    _adopt_orphans(True)
    try:
        return _run(command, cwd, env)
    finally:
        _adopt_orphans(False)


def _run(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None) -> Cost:
    before = _children_cpu()
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with _Sampler(process.pid) as sampler:
        stdout, stderr = process.communicate()
    wall = time.perf_counter() - start
    _reap(process.pid, sampler.seen)
    return Cost(
        wall_seconds=wall,
        cpu_seconds=_children_cpu() - before,
        peak_pss_nbytes=sampler.peak_nbytes,
        peak_gpu_nbytes=sampler.peak_gpu_nbytes,
        memory_samples=sampler.samples,
        exit_code=process.returncode,
        stdout=stdout,
        stderr=stderr,
    )


class _Sampler:
    """A thread that adds up the memory of a process and its descendants ten times a second.

    Walking the page tables of a big process takes milliseconds and holds its memory lock, so the thread rests
    at least twenty times as long as it worked.
    """

    def __init__(self, pid: int) -> None:
        self.peak_nbytes = 0
        self.peak_gpu_nbytes = 0
        self.samples = 0
        self.seen: set[int] = set()
        self._pid = pid
        self._gpu = _GpuMemory()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        rest = 0.0
        while not self._stop.wait(rest):
            start = time.perf_counter()
            pids = _tree(self._pid)
            self.seen.update(pids)
            self.peak_nbytes = max(self.peak_nbytes, sum(_pss(pid) for pid in pids))
            self.peak_gpu_nbytes = max(self.peak_gpu_nbytes, self._gpu.nbytes())
            self.samples += 1
            rest = max(INTERVAL_SECONDS, 20 * (time.perf_counter() - start))


def _tree(pid: int) -> list[int]:
    try:
        root = psutil.Process(pid)
        return [pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.Error:
        return []


def _pss(pid: int) -> int:
    """Returns bytes; 0 for a process that has gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


class _GpuMemory:
    """Measures what the visible GPUs hold above what they held at the start; 0 without NVML."""

    def __init__(self) -> None:
        self._handles: list[object] = []
        self._before = 0
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:  # no driver
            return
        self._nvml = pynvml
        self._handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        self._before = self.nbytes()

    def nbytes(self) -> int:
        return sum(self._nvml.nvmlDeviceGetMemoryInfo(handle).used for handle in self._handles) - self._before


def _adopt_orphans(yes: bool) -> None:
    """While it is on, orphans of the command become our children, so that their CPU time is counted too."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _reap(pid: int, seen: set[int]) -> None:
    """Waits for processes that outlived the command (which counts their CPU time), and kills them after five seconds."""
    left = [process for process in psutil.Process().children() if process.pid in seen - {pid}]
    _, alive = psutil.wait_procs(left, timeout=5)
    for process in alive:
        process.kill()
        process.wait()
