"""Collects the circumstances of a measurement: machine, versions, commit."""

import importlib.metadata
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from pipeline.cluster.affinity import allowed_cores
from pipeline.cluster.machine import processor

DISTRIBUTIONS = (
    "dask-train-pipeline", "xgboost", "dask", "distributed", "dask-cuda", "lightgbm", "numpy", "pyarrow", "cupy-cuda13x",
)  # fmt: skip


def circumstances() -> dict[str, Any]:
    """Machine, versions and commit; nothing that names a person, a host or a folder."""
    return {
        "time": now(),
        "machine": {
            "processor": processor(),
            "cores": len(allowed_cores()),
            "memory_nbytes": psutil.virtual_memory().total,
            "system": f"{platform.system()} {platform.machine()}",
            "gpus": _gpus(),
            "load_before": round(psutil.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version()} | _versions(),
        "commit": _commit(),
    }


def now(timespec: str = "seconds") -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec=timespec)


def _gpus() -> list[str]:
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return []
    return listed.stdout.strip().splitlines()


def _versions() -> dict[str, str]:
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    """The commit of this checkout, with "+" where tracked files differ from it."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return "unknown"  # installed: a surrounding repository, if any, is a different one
    try:
        commit, changes = (
            subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changes else "")
