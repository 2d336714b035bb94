"""Compares models at defaults with those of XGBoost, LightGBM, scikit-learn and CatBoost on real data sets.

    python -m benchmarks.defaults --half report                          # contenders
    python -m benchmarks.defaults --half choose --candidates             # settings that may become the defaults

For each set of benchmarks/real_sets.py and seed, a quarter of the rows is drawn for the test; all contenders train on the
same others with one thread, each at its own defaults.  "this project" trains on all of them, as a job without
validation does; "this project, held out" holds out a fifth, as the command line does without a job file, and stops
early.  Measures are log loss and 1 - AUC (binary), log loss (multi-class) and RMSE (regression), of the test rows.  CPU
seconds are of the fit: for this project, of the matrices and rounds, without starting a cluster and reading.
CatBoost runs with the Python of --catboost, where it is installed.

--candidates boosts each of CANDIDATES on the sets instead, measures after each of MARKS rounds, and prints the mean
logarithm of the loss compared with the best library's: run the libraries on the same half with the same --samples first.

Every result is appended to a file in the cache; a run that was stopped continues.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import xgboost

from benchmarks import record
from benchmarks.competitors.common import auc
from benchmarks.defaults_report import by_rounds, summarize, text
from benchmarks.local_training import Prepared
from benchmarks.real_sets import DEFAULT_CACHE, MOST_ROWS, SETS, Loaded, halves, load
from benchmarks.resumable import JsonLines
from pipeline.cli.job_source import HELD_OUT
from pipeline.cli.terminal import run
from pipeline.config.encoding import ENCODING
from pipeline.config.job import Job

if TYPE_CHECKING:
    import pandas as pd

SEEDS = 5
SHOWN = 30  # candidates
LIBRARIES = ("lightgbm", "xgboost", "sklearn", "catboost")
OURS, OURS_HELD_OUT = "this project", "this project, held out"
SCRIPT = Path(__file__).resolve().parent / "competitors" / "at_defaults.py"
KEY = ("set", "seed", "contender")  # of a result in its file
MARKS = (50, 75, 100, 150, 200, 300, 400, 500, 700, 1000)

Losses = dict[str, float]  # by measure


@dataclass(frozen=True)
class Task:
    """A data set with its rows split by a seed."""

    loaded: Loaded
    seed: int
    train: "pd.DataFrame"
    test: "pd.DataFrame"

    @classmethod
    def of(cls, loaded: Loaded, seed: int) -> "Task":
        return cls(loaded, seed, *loaded.split(seed))

    def job(self, held_out: float = 0, training: Mapping[str, Any] | None = None) -> Job:
        """The job of a user who names the target only; `held_out`: the share of rows to validate on."""
        validation = {"validation": {"share": held_out}} if held_out else {}
        data = {"source": ".", "target": self.loaded.target, **validation}
        return Job.parse({"data": data, "training": {"seed": self.seed, **(training or {})}})

    def losses(self, predicted: np.ndarray) -> Losses:
        """Measures of the test rows' predictions: values, or probabilities by class in the order of the names."""
        label = self.test[self.loaded.target].to_numpy()
        if self.loaded.kind == "regression":
            return {"rmse": float(np.sqrt(np.mean((label - predicted) ** 2)))}
        classes, codes = np.unique(label, return_inverse=True)
        if predicted.ndim == 1:
            predicted = np.stack([1 - predicted, predicted], axis=1)
        assert predicted.shape[1] == len(classes)
        chance = np.clip(predicted[np.arange(len(codes)), codes].astype(float), 1e-7, 1)  # float32 may say 0
        found = {"log loss": float(-np.mean(np.log(chance)))}
        return {**found, "1 - AUC": 1 - auc(codes, predicted[:, 1])} if len(classes) == 2 else found


def ours(task: Task, held_out: float, training: Mapping[str, Any]) -> dict[str, Any]:
    """Trains as `pipeline.train` does; `training`: fields of the job other than their defaults."""
    job = task.job(held_out, training)
    prepared = Prepared.of(job, task.train)
    trained = prepared.train(job.training)
    return {
        "losses": task.losses(prepared.predict(trained.model, task.test)), "cpu_seconds": trained.cpu_seconds,
        "prepare_cpu_seconds": prepared.cpu_seconds, "rounds": trained.rounds, "best_round": trained.best_round,
    }  # fmt: skip


class Libraries:
    """A process for each Python that libraries are fitted in, with one thread."""

    def __init__(self, catboost: str) -> None:
        self._pythons = {name: catboost if name == "catboost" else sys.executable for name in LIBRARIES}
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def fit(self, task: Task, name: str) -> dict[str, Any]:
        """Fits a library; an error is a result."""
        with tempfile.TemporaryDirectory(prefix="at-defaults-") as scratch:
            parts = [str(Path(scratch) / part) for part in ("train.parquet", "test.parquet", "predicted.npy")]
            task.train.to_parquet(parts[0])
            task.test.to_parquet(parts[1])
            said = self._ask(self._pythons[name], [name, task.loaded.kind, task.loaded.target, *parts])
            return said if "error" in said else {"losses": task.losses(np.load(parts[2])), **said}

    def _ask(self, python: str, question: list[str]) -> dict[str, Any]:
        if python not in self._processes:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
            self._processes[python] = subprocess.Popen(
                [python, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, env=environment,
            )  # fmt: skip
        process = self._processes[python]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            del self._processes[python]
            return {"error": f"its process ended with exit code {process.wait()}"}
        found: dict[str, Any] = json.loads(answer)
        return found

    def close(self) -> None:
        for process in self._processes.values():
            process.communicate()


@dataclass(frozen=True)
class Candidate:
    """Settings that may become the defaults."""

    learning_rate: float
    params: Mapping[str, Any]
    most_rounds: int


MORE: tuple[Mapping[str, Any], ...] = (
    {"max_depth": 6, "min_child_weight": 3, "colsample_bynode": 0.7},
    {"max_depth": 5, "min_child_weight": 1, "colsample_bynode": 0.5},
    {"max_depth": 6, "min_child_weight": 3, "colsample_bytree": 0.5},
    {"max_depth": 5, "min_child_weight": 1, "colsample_bytree": 0.5},
    {"max_depth": 6, "min_child_weight": 1, "colsample_bytree": 0.7, "reg_lambda": 3},
    {"max_depth": 6, "min_child_weight": 1, "colsample_bytree": 0.7, "reg_lambda": 10},
    {"max_depth": 6, "min_child_weight": 3, "colsample_bytree": 0.7, "max_cat_threshold": 16},
    {"max_depth": 6, "min_child_weight": 1, "colsample_bynode": 0.5, "reg_lambda": 3},
)


def _grid() -> dict[str, Candidate]:
    found = {}
    for depth, weight, columns, rate in itertools.product((4, 5, 6, 7), (1, 3, 5), (1, 0.7), (0.05, 0.1)):
        name = f"depth {depth}, weight {weight}, columns {columns}, rate {rate}"
        params: dict[str, Any] = {"max_depth": depth, "min_child_weight": weight, "colsample_bytree": columns}
        found[name] = Candidate(rate, params, 400 if rate < 0.1 else 200)
    for weight, rate in itertools.product((1, 5), (0.05, 0.1)):
        params = {"grow_policy": "lossguide", "max_leaves": 31, "max_depth": 0, "min_child_weight": weight}
        found[f"31 leaves, weight {weight}, rate {rate}"] = Candidate(rate, params, 400 if rate < 0.1 else 200)
    for more in MORE:
        found[", ".join(f"{name} {value}" for name, value in more.items())] = Candidate(0.05, more, 300)
    for depth, rate in itertools.product((5, 6, 7), (0.05, 0.1, 0.15)):
        params = {"max_depth": depth, "colsample_bynode": 0.5}
        found[f"depth {depth}, half the columns of a node, rate {rate}"] = Candidate(rate, params, 300)
    return found


CANDIDATES = _grid()


def curve(task: Task, prepared: Prepared, test: xgboost.DMatrix, candidate: Candidate) -> dict[str, Any]:
    """Losses and CPU seconds after MARKS rounds, without held-out rows."""
    params = {"learning_rate": candidate.learning_rate, **candidate.params}
    spec = prepared.spec(task.job().training.model_copy(update={"params": params}))
    matrix, marks = prepared.partition.train.matrix, [mark for mark in MARKS if mark <= candidate.most_rounds]
    found, cpu = [], 0.0
    with xgboost.config_context(nthread=1, verbosity=0):
        booster = xgboost.Booster({**spec.params, "nthread": 1, "max_bin": ENCODING.codes}, [matrix, test])
        for number in range(candidate.most_rounds):
            begin = time.process_time()
            booster.update(matrix, number)
            cpu += time.process_time() - begin
            if number + 1 in marks:
                found.append({"rounds": number + 1, "losses": task.losses(booster.predict(test)), "cpu_seconds": cpu})
    return {"curve": found}


def candidates(task: Task, wanted: Sequence[str]) -> Iterable[tuple[str, dict[str, Any]]]:
    prepared = Prepared.of(task.job(), task.train)
    types = prepared.partition.train.matrix.feature_types
    test = xgboost.DMatrix(prepared.features(task.test), feature_types=types, enable_categorical=True, nthread=1)
    test.feature_names = prepared.partition.train.matrix.feature_names
    for name in wanted:
        yield name, curve(task, prepared, test, CANDIDATES[name])


@dataclass(frozen=True)
class Options:
    """Of the command."""

    half: str  # "choose", "report" or "both"
    names: Sequence[str]  # sets instead of a half
    contenders: Sequence[str]
    choosing: bool  # candidates instead of contenders
    chosen: Sequence[str]  # candidates
    training: str  # JSON
    seeds: int
    rows: int  # of a set at most
    cache: Path
    python: str  # that has CatBoost
    name: str  # of the record; empty: none is written
    samples: Path | None  # None: in the cache

    @cached_property
    def sets(self) -> Sequence[str]:
        parts = dict(zip(("choose", "report"), halves(), strict=True))
        return self.names or parts.get(self.half) or tuple(SETS)


@click.command(help=__doc__)
@click.option("--half", type=click.Choice(["choose", "report", "both"]), default="report", show_default=True)
@click.option("--set", "names", multiple=True, type=click.Choice(list(SETS)), help="Instead of a half.")
@click.option("--contender", "contenders", multiple=True, type=click.Choice([OURS, OURS_HELD_OUT, *LIBRARIES]),
              default=[OURS, OURS_HELD_OUT, *LIBRARIES])  # fmt: skip
@click.option("--candidates", "choosing", is_flag=True)
@click.option("--candidate", "chosen", multiple=True, type=click.Choice(list(CANDIDATES)), default=list(CANDIDATES))
@click.option("--training", default="{}", help="Fields of `training` of this project's jobs, as JSON.")
@click.option("--seeds", type=click.IntRange(1), default=SEEDS, show_default=True)
@click.option("--rows", type=click.IntRange(100), default=MOST_ROWS, show_default=True, help="Of a set at most.")
@click.option("--cache", type=click.Path(path_type=Path), default=DEFAULT_CACHE, show_default=True)
@click.option("--catboost", "python", default=sys.executable, help="A Python that has CatBoost; default: this one.")
@click.option("--name", default="defaults", show_default=True, help="Of the record; an empty one: none is written.")
@click.option("--samples", type=click.Path(path_type=Path), help="Where results are kept; default: in the cache.")
def command(**given: Any) -> int:
    options = Options(**given)
    kept = measure(options)
    if options.choosing:
        conclude_choice(kept, options.name)
    else:
        conclude([one for one in kept if one["set"] in options.sets and one["seed"] < options.seeds], options)
    return 0


def measure(options: Options) -> list[dict[str, Any]]:
    """Adds the results that the file lacks; returns all that it has."""
    kept = JsonLines(options.samples or options.cache / f"{options.name or 'defaults'}.jsonl", KEY)
    libraries = Libraries(options.python)
    for seed, data in itertools.product(range(options.seeds), options.sets):
        asked = options.chosen if options.choosing else options.contenders
        wanted = [one for one in asked if not kept.has(set=data, seed=seed, contender=one)]
        if not wanted:
            continue
        task = Task.of(load(data, options.cache, options.rows), seed)
        if options.choosing:
            results = candidates(task, wanted)
        else:
            results = run_contenders(task, wanted, libraries, json.loads(options.training))
        for one, found in results:
            kept.add({"set": data, "seed": seed, "contender": one, "train_rows": len(task.train), **found})
            print(line(kept.all[-1]), flush=True)
    libraries.close()
    return kept.all


def conclude_choice(samples: Sequence[Mapping[str, Any]], name: str) -> None:
    """Prints how the candidates compare, and writes the record; `samples`: theirs and the libraries'."""
    found = by_rounds(samples, samples, to="lightgbm")
    for one in found[:SHOWN]:
        print(
            f"{one['sets']:2} sets  {one['candidate']:50} {one['rounds']:4} rounds  mean gap {one['mean_gap']:+.2%}  "
            f"median {one['median_gap']:+.2%}  CPU {one['cpu_ratio']:.2f}"
        )
    if name:
        record.write(
            name,
            {"benchmark": "defaults", **record.circumstances(), "candidates": found, "samples": kept_short(samples)},
        )


def kept_short(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line of JSON for each sample, with six digits, a curve as lists over the rounds."""

    def short(one: Mapping[str, Any]) -> Mapping[str, Any]:
        if "curve" not in one:
            return one
        curve = one["curve"]
        losses = {name: [mark["losses"][name] for mark in curve] for name in curve[0]["losses"]}
        columns = {name: [mark[name] for mark in curve] for name in ("rounds", "cpu_seconds")}
        return {**{name: value for name, value in one.items() if name != "curve"}, **columns, "losses": losses}

    def rounded(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: rounded(part) for name, part in value.items()}
        if isinstance(value, list):
            return [rounded(part) for part in value]
        return float(f"{value:.6g}") if isinstance(value, float) else value

    return [json.dumps(rounded(short(one))) for one in samples]


def conclude(samples: Sequence[Mapping[str, Any]], options: Options) -> None:
    """Prints the tables, and writes the record if it has a name; `samples`: of these sets and seeds."""
    libraries = [one for one in options.contenders if one in LIBRARIES]
    own = [one for one in (OURS, OURS_HELD_OUT) if any(sample["contender"] == one for sample in samples)]
    fitting = [one for one in libraries if any(sample["contender"] == one and "losses" in sample for sample in samples)]
    if not own or "lightgbm" not in fitting:
        return
    found = [summarize(samples, one, fitting, to="lightgbm") for one in own]
    for summary in found:
        print(text(summary), end="\n\n")
    if options.name:
        sets = {
            one: {"package": SETS[one].package, "version": SETS[one].version, "kind": SETS[one].kind}
            for one in options.sets
        }
        settings = {
            "sets": sets, "seeds": options.seeds, "most_rows": options.rows, "training": json.loads(options.training),
        }  # fmt: skip
        full = {
            "settings": settings, "summaries": [summary.record() for summary in found], "samples": kept_short(samples),
        }  # fmt: skip
        record.write(options.name, {"benchmark": "defaults", **record.circumstances(), **full})


def run_contenders(
    task: Task, wanted: Sequence[str], libraries: Libraries, training: Mapping[str, Any] | None = None
) -> Iterable[tuple[str, dict[str, Any]]]:
    own: dict[str, Callable[[], dict[str, Any]]] = {
        OURS: lambda: ours(task, 0, training or {}),
        OURS_HELD_OUT: lambda: ours(task, HELD_OUT, training or {}),
    }
    for one in wanted:
        yield one, own[one]() if one in own else libraries.fit(task, one)


def line(one: Mapping[str, Any]) -> str:
    said = f"{one['set']:14} seed {one['seed']}  {one['contender']:36}"
    if "error" in one:
        return f"{said} {one['error']}"
    last = one["curve"][-1] if "curve" in one else one
    losses = "  ".join(f"{name} {value:.5g}" for name, value in last["losses"].items())
    rounds = f"  {last['rounds']} rounds" if "rounds" in last else ""
    return f"{said} {losses}  {last['cpu_seconds']:.2f} CPU s{rounds}"


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.defaults"))
