"""Runs the contenders of the end-to-end benchmark: the command of each, and the outcome of a run."""

import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.competitors.common import auc, matrix
from benchmarks.measure import run

ROOT = Path(__file__).resolve().parent.parent
CURVE_POINTS = 20  # of AUC over rounds
NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Setting:
    """The task of all contenders."""

    train: Path
    heldout: Path
    seed: int  # of the data
    rounds: int
    depth: int
    max_bin: int
    learning_rate: float
    threads: int
    device: str


@dataclass(frozen=True)
class Contender:
    name: str
    title: str
    script: str | None  # a module of benchmarks.competitors; None: this project's command
    workers: int = 1
    device: str = "cpu"
    model: str = "model.ubj"  # the booster's file in the output folder
    package: str | None = None  # what it needs that our development environment lacks


ALL = {
    contender.name: contender
    for contender in (
        Contender("ours", "this project", None),
        Contender("a", "by hand, in memory", "in_memory"),
        Contender("a-ordered", "by hand, in memory, rows in our order", "in_memory_ordered"),
        Contender("b", "by hand, file by file", "data_iter"),
        Contender("dask21", "xgboost.dask, 2 workers x 1 thread", "xgboost_dask", workers=2),
        Contender("dask12", "xgboost.dask, 1 worker, all threads", "xgboost_dask"),
        Contender("lightgbm", "LightGBM", "lightgbm_plain", model="model.txt"),
        Contender("lightgbm-q", "LightGBM, quantised gradients", "lightgbm_quantized", model="model.txt"),
        Contender("lightgbm-ordered", "LightGBM, rows in our order", "lightgbm_ordered", model="model.txt"),
        Contender("catboost", "CatBoost", "catboost_plain", model="model.cbm", package="catboost"),
        Contender("ours-gpu", "this project, GPU", None, device="cuda"),
        Contender("cupy", "by hand, one CuPy matrix", "cupy_matrix", device="cuda"),
    )
}


@dataclass(frozen=True)
class Outcome:
    """One run; `error` is set if it failed, and then only the cost is valid."""

    contender: str
    seed: int
    wall_seconds: float
    cpu_seconds: float
    peak_pss_nbytes: int
    peak_gpu_nbytes: int
    memory_samples: int
    auc: float | None = None  # reported by the contender itself
    seconds: dict[str, float] = field(default_factory=dict)  # by stage, reported by the contender
    auc_by_round: list[tuple[int, float]] = field(default_factory=list)  # computed afterwards from the saved model
    more: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def line(self) -> str:
        if self.error == NOT_INSTALLED:
            return f"{self.contender:>10}  {NOT_INSTALLED}"
        result = f"failed: {self.error}" if self.error else f"AUC {self.auc:.5f}"
        return (
            f"{self.contender:>10}  seed {self.seed}  {self.wall_seconds:7.2f} s  {self.cpu_seconds:7.2f} s CPU  "
            f"{self.peak_pss_nbytes / 1e9:5.2f} GB  {result}"
        )


def attempt(contender: Contender, setting: Setting) -> Outcome:
    """Runs a contender once in a fresh process; a failure is an outcome too, and so is a package that is missing."""
    if contender.package is not None and importlib.util.find_spec(contender.package) is None:
        return Outcome(contender.name, setting.seed, 0.0, 0.0, 0, 0, 0, error=NOT_INSTALLED)
    with tempfile.TemporaryDirectory(prefix=f"{contender.name}-") as scratch:
        out = Path(scratch) / "out"
        if contender.script is None:
            command = _our_command(Path(scratch), out, setting)
        else:
            out.mkdir()
            command = _script(contender, out, setting)
        cost = run(command, cwd=ROOT, env=_environment(setting))
        costs: dict[str, Any] = {
            "contender": contender.name,
            "seed": setting.seed,
            "wall_seconds": cost.wall_seconds,
            "cpu_seconds": cost.cpu_seconds,
            "peak_pss_nbytes": cost.peak_pss_nbytes,
            "peak_gpu_nbytes": cost.peak_gpu_nbytes,
            "memory_samples": cost.memory_samples,
        }
        if cost.exit_code:
            last = (cost.stderr.strip() or "no message").splitlines()[-1]
            return Outcome(**costs, error=f"exit code {cost.exit_code}: {last}")
        said = json.loads(cost.stdout.strip().splitlines()[-1])
        score, seconds, more = _ours(said) if contender.script is None else _theirs(said)
        curve = _auc_by_round(out / contender.model, setting)
        return Outcome(**costs, auc=score, seconds=seconds, more=more, auc_by_round=curve)


def _environment(setting: Setting) -> dict[str, str]:
    """Returns our environment without variables that set libraries' numbers of threads."""
    kept = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    return {**kept, "PYTHONWARNINGS": "ignore"}


def _script(contender: Contender, out: Path, setting: Setting) -> Sequence[str]:
    options = {
        "train": setting.train, "heldout": setting.heldout, "out": out, "rounds": setting.rounds, "depth": setting.depth,
        "max-bin": setting.max_bin, "learning-rate": setting.learning_rate, "workers": contender.workers,
        "threads": setting.threads,
    }  # fmt: skip
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", f"benchmarks.competitors.{contender.script}", *words]


def _our_command(scratch: Path, out: Path, setting: Setting) -> Sequence[str]:
    """Returns the installed command on a job file, with the report off and no early stopping, as in the scripts."""
    job = scratch / "job.toml"
    job.write_text(
        f"""\
[data]
source = {json.dumps(str(setting.train))}
target = "label"
validation = {{ source = {json.dumps(str(setting.heldout))} }}

[training]
rounds = {setting.rounds}
early_stopping = 0
metrics = ["logloss"]
max_bin = {setting.max_bin}
params = {{ max_depth = {setting.depth}, learning_rate = {setting.learning_rate}, colsample_bynode = 1 }}

[cluster]
device = "{setting.device}"
workers = 1
threads = {setting.threads}

[output]
report = false
""",
        encoding="utf-8",
    )
    return [sys.executable, "-m", "pipeline", "train", str(job), "--json", "--quiet", "--out", str(out)]


def _ours(said: dict[str, Any]) -> tuple[float, dict[str, float], dict[str, Any]]:
    kept = ("rounds", "best_round", "workers", "threads", "rows", "model_sha256", "peak_memory_nbytes")
    more: dict[str, Any] = {key: said[key] for key in kept if key in said}
    return said["metrics"]["validation"]["auc"], said["seconds"], more


def _theirs(said: dict[str, Any]) -> tuple[float, dict[str, float], dict[str, Any]]:
    return said.pop("auc"), said.pop("seconds"), said


def _auc_by_round(model: Path, setting: Setting) -> list[tuple[int, float]]:
    """Computes the held-out AUC of the saved model cut off after some of its rounds, up to all of them."""
    values, label = matrix(pq.read_table(setting.heldout))
    rounds = sorted({round(setting.rounds * n / CURVE_POINTS) for n in range(1, CURVE_POINTS + 1)} - {0})
    return [(count, auc(label, _predict(model, values, count))) for count in rounds]


def _predict(model: Path, values: np.ndarray, rounds: int) -> np.ndarray:
    if model.suffix == ".txt":
        import lightgbm

        return np.asarray(lightgbm.Booster(model_file=str(model)).predict(values, num_iteration=rounds))
    if model.suffix == ".cbm":
        import catboost

        symmetric = catboost.CatBoost().load_model(str(model))
        return np.asarray(symmetric.predict(values, ntree_end=rounds))
    import xgboost

    booster = xgboost.Booster(model_file=str(model))
    booster.set_param({"device": "cpu"})
    booster.feature_names = None  # ours has names, a plain array has none
    booster.feature_types = None
    return np.asarray(booster.inplace_predict(values, iteration_range=(0, rounds)))
