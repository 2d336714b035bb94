"""Compares what becomes of categories of many levels: splits of sets of levels, of one level, or target encodings.

    python -m benchmarks.categories

Each training stops early by rows of its own, and is judged by other rows that it has not seen: log loss, or the root of
the mean squared error.  Contenders of one data set and seed have the same rows; the table has the difference to
"native" in percent (below 0: better), with its standard error over the seeds.  The record is continued where it ends;
it holds results of several settings, each with its own, and the tables are of the seeds and settings of this command.

In its record seeds below 20 are those that the rule of `preprocess/category_splits.py` was found with, the others judge
it; a limit of 500 rows for each level became 400 by these, and what "rule" had between the two is under "threshold-16",
which it was.  Not taken: target encoding above 32 levels gains as much with up to 100 rows for each level, but loses 4 to
9 % with 200 and more where categories interact (green_taxi); splits of one level lose 5 % on few, ordered levels
(diamonds); copies as target encodings beside native splits change nothing.
"""

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import xgboost

from benchmarks import record
from benchmarks.category_rows import Parts, parts_of
from benchmarks.local_preparation import Ready, prepare
from benchmarks.resumable import ResumableRecord
from pipeline.cli.terminal import run
from pipeline.config.encoding import ENCODING
from pipeline.config.job import Job
from pipeline.preprocess.apply import matrix
from pipeline.preprocess.category_splits import FEW_LEVELS, LEAST_LEVELS, MOST_LEVELS, PARAMETER, category_threshold
from pipeline.preprocess.features import Category
from pipeline.training.xgboost.matrix import Partition, build_partition

FEW_ROUNDS = 100  # the value of no more rounds is recorded, too: a job's default when the record was begun
PATIENCE = 20  # rounds without a better value, of early stopping
COPY = " mean"  # ends the name of a category's copy


@dataclass(frozen=True)
class Contender:
    """What differs from a job's defaults."""

    preprocess: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    copies: bool = False  # categories of 17 levels and more become target encodings besides
    bound: Callable[[Sequence[int | None], int], int] | None = (
        None  # max_cat_threshold, of each feature's levels and the rows
    )

    @property
    def is_told_by_features(self) -> bool:
        """Whether contenders of the same features and params are the same."""
        return self.bound is None and "min_count" not in self.preprocess


def by_rows(rows_per_level: int, levels: Sequence[int | None], rows: int) -> int:
    """The rule without its limit of rows, with another number in it."""
    most = max((count for count in levels if count is not None), default=0)
    return min(max(rows // (most * rows_per_level), LEAST_LEVELS), MOST_LEVELS) if most > FEW_LEVELS else MOST_LEVELS


NATIVE = {"max_levels": ENCODING.most_levels}
CONTENDERS: Mapping[str, Contender] = {
    "native": Contender(NATIVE),
    **{f"target-{most}": Contender({"max_levels": most}) for most in (16, 32, 64, 128)},
    "one-hot": Contender(NATIVE, {"max_cat_to_onehot": 1000}),
    "both": Contender(NATIVE, copies=True),
    "target-32, one-hot": Contender({"max_levels": 32}, {"max_cat_to_onehot": 1000}),
    "both, one-hot": Contender(NATIVE, {"max_cat_to_onehot": 1000}, copies=True),
    "both, threshold-8": Contender(NATIVE, {"max_cat_threshold": 8}, copies=True),
    "lambda-20": Contender(NATIVE, {"lambda": 20}),
    "rule": Contender(NATIVE, bound=category_threshold),
    **{f"rule-{rows}": Contender(NATIVE, bound=partial(by_rows, rows)) for rows in (12, 25)},
    **{f"threshold-{most}": Contender(NATIVE, {"max_cat_threshold": most}) for most in (1, 2, 4, 8, 16)},
    "count-20": Contender({**NATIVE, "min_count": 20}),
}


@dataclass(frozen=True)
class Settings:
    """Of the boosting rounds."""

    rounds: int  # at most: trainings stop early
    depth: int
    learning_rate: float
    threads: int

    @property
    def key(self) -> dict[str, Any]:
        """The settings in the key of a result in the record."""
        return {"most_rounds": self.rounds, "depth": self.depth, "rate": self.learning_rate}


@click.command(help=__doc__)
@click.option("--data", "names", multiple=True, required=True, help="See benchmarks/category_rows.py.")
@click.option("--contender", "contenders", multiple=True, type=click.Choice(list(CONTENDERS)), default=list(CONTENDERS))
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--first-seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=500, show_default=True)
@click.option("--depth", type=click.IntRange(1), default=6, show_default=True)
@click.option("--learning-rate", type=float, default=0.1, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Keeps rows there; default: a temporary folder.")
@click.option("--results", type=click.Path(path_type=Path), default=record.RESULTS, help="The folder of the record.")
def command(
    names: Sequence[str],
    contenders: Sequence[str],
    seeds: int,
    first_seed: int,
    cache: Path | None,
    results: Path,
    **given: Any,
) -> int:
    settings = Settings(**given)
    every = range(first_seed, first_seed + seeds)
    with tempfile.TemporaryDirectory(prefix="categories-") as scratch:
        found = measure(names, contenders, every, settings, cache or Path(scratch), results)
    for data in names:
        print(table([one for one in found if _is_of(one, settings) and one["data"] == data and one["seed"] in every]))
    return 0


def measure(
    names: Sequence[str],
    contenders: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
    cache: Path,
    folder: Path,
) -> list[dict[str, Any]]:
    """Adds the results that the record lacks; returns all that it has, those of other settings among them."""
    empty: dict[str, Any] = {"benchmark": "categories", "starts": [], "results": []}
    kept = ResumableRecord("categories", folder, empty, "results", ("data", "seed", "contender", *settings.key))
    if kept.all and not any(_is_of(one, settings) for one in kept.all):
        print(f"categories.json has results of other settings only: added are those of {settings.key}", file=sys.stderr)
    for seed, data in itertools.product(seeds, names):
        wanted = [one for one in contenders if not kept.has(data=data, seed=seed, contender=one, **settings.key)]
        if wanted:
            kept.add(*compare(partial(parts_of, data, seed, cache), wanted, seed, settings))
            print(f"{data}, seed {seed}: {', '.join(wanted)}", file=sys.stderr, flush=True)
    return kept.all


def _is_of(one: Mapping[str, Any], settings: Settings) -> bool:
    return all(one[part] == value for part, value in settings.key.items())


def compare(
    rows: Callable[[], Parts], contenders: Sequence[str], seed: int, settings: Settings
) -> list[dict[str, Any]]:
    """Trains each contender on the same rows; one whose features are those of an earlier one has its result."""
    parts = rows()
    found: list[dict[str, Any]] = []
    for name in contenders:
        contender, begin = CONTENDERS[name], time.process_time()
        ready = prepared(parts, contender, seed)
        encodings = {
            one.name: f"{one.encoding} {len(getattr(one, 'levels', ()))}" for one in ready.fitted.recipe.features
        }
        common = {"data": parts.name, "seed": seed, "contender": name}
        alike = [one for one in found if (one["features"], one["params"]) == (encodings, contender.params)]
        same = next((one for one in alike if CONTENDERS[one["contender"]].is_told_by_features), None)
        if same is not None and contender.is_told_by_features:
            found.append({**same, **common})
            continue
        found.append({
            **common, **settings.key, "params": dict(contender.params),
            "rows": ready.fitted.statistics.rows, "features": encodings, **scored(parts, ready, contender, settings),
            "cpu_seconds": round(time.process_time() - begin, 2),
        })  # fmt: skip
    return found


def prepared(parts: Parts, contender: Contender, seed: int) -> Ready:
    """The rows as a training has them under a contender's settings."""
    columns: dict[str, Any] = {name: {"kind": "category"} for name in parts.categories}
    if contender.copies:
        columns |= {name: {"kind": "category", "encoding": "target"} for name in _copies(parts.fitting, parts)}
    return prepare(
        Job.parse({
            "data": {"source": "rows", "target": "label", "exclude": ["part"], "validation": {"column": "part", "values": [1]}},
            "preprocess": {**contender.preprocess, "columns": columns},
            "training": {"seed": seed, "row_order": "source"},
        }),
        _with_copies(parts.fitting, parts) if contender.copies else parts.fitting,
    )  # fmt: skip


def scored(parts: Parts, ready: Ready, contender: Contender, settings: Settings) -> dict[str, Any]:
    """Trains, stops early, and judges by the test rows."""
    fitted = ready.fitted
    decide = contender.bound
    bound = {} if decide is None else {PARAMETER: decide(fitted.recipe.levels, fitted.statistics.rows)}
    binary = len(ready.target.classes) == 2
    params = {
        "objective": ready.target.objective, "max_depth": settings.depth, "learning_rate": settings.learning_rate,
        "max_bin": 256, "nthread": settings.threads, "base_score": fitted.mean_label, **contender.params, **bound,
        "eval_metric": "logloss" if binary else "rmse",
    }  # fmt: skip
    with xgboost.config_context(nthread=settings.threads, verbosity=0):
        sides = build_partition(ready.blocks, fitted.cuts, fitted.recipe.names, threads=settings.threads)
        booster, rounds = _boosted(params, sides, settings.rounds)
        values = matrix(fitted.recipe, _with_copies(parts.test, parts) if contender.copies else parts.test)
        test = xgboost.DMatrix(
            values, feature_names=list(fitted.recipe.names), feature_types=list(fitted.recipe.kinds),
            enable_categorical=True, nthread=settings.threads,
        )  # fmt: skip
        guesses = [
            booster.predict(test, iteration_range=(0, upto)).astype(np.float64)
            for upto in (rounds, min(rounds, FEW_ROUNDS))
        ]
    label = parts.test.column("label").to_numpy(zero_copy_only=False).astype(np.float64)
    best = {"rounds": rounds, "test_rows": len(label), "metric": "logloss" if binary else "rmse"}
    value, early = (_loss(label, guess, binary) for guess in guesses)
    return {**best, **bound, "value": value, "value_of_few_rounds": early}


def _loss(label: np.ndarray, guess: np.ndarray, binary: bool) -> float:
    if not binary:
        return float(np.sqrt(np.mean((label - guess) ** 2)))
    guess = np.clip(guess, 1e-7, 1 - 1e-7)
    return -float(np.mean(np.where(label > 0, np.log(guess), np.log1p(-guess))))


def _boosted(params: Mapping[str, Any], sides: Partition, rounds: int) -> tuple[xgboost.Booster, int]:
    """A booster, and the round (from 1) with the best value of the rows for early stopping."""
    booster = xgboost.Booster(dict(params), [sides.train.matrix, sides.validation.matrix])
    values: list[float] = []
    for number in range(rounds):
        booster.update(sides.train.matrix, number)
        values.append(float(booster.eval(sides.validation.matrix).rsplit(":", 1)[1]))
        if number - int(np.argmin(values)) >= PATIENCE:
            break
    return booster, int(np.argmin(values)) + 1


def _copies(table: pa.Table, parts: Parts) -> list[str]:
    return [f"{name}{COPY}" for name in parts.categories if len(table.column(name).unique()) > 16]


def _with_copies(table: pa.Table, parts: Parts) -> pa.Table:
    for copy in _copies(parts.fitting, parts):
        table = table.append_column(copy, table.column(copy.removesuffix(COPY)))
    return table


def differences(found: Iterable[Mapping[str, Any]], contender: str, base: str = "native") -> list[float]:
    """Percent by which a contender's metric is above the base's, one a seed (and settings)."""
    pairs: dict[tuple[Any, ...], dict[str, float]] = {}
    for one in found:
        key = tuple(one[part] for part in ("data", "seed", "most_rounds", "depth", "rate"))
        pairs.setdefault(key, {})[one["contender"]] = one["value"]
    both = [pair for pair in pairs.values() if {contender, base} <= pair.keys()]
    return [100 * (pair[contender] / pair[base] - 1) for pair in both]


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """The results of one data set and of one setting."""
    first = found[0]
    levels = [one.split()[1] for one in first["features"].values() if one.split()[0] in (Category.encoding, "target")]
    lines = [f"{first['data']}: {first['rows']:,} rows, levels {', '.join(levels)}, {first['metric']}"]
    for name in dict.fromkeys(one["contender"] for one in found):
        mine = [one for one in found if one["contender"] == name]
        apart = differences(found, name)
        error = statistics.stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
        value = statistics.fmean(one["value"] for one in mine)
        rounds = statistics.fmean(one["rounds"] for one in mine)
        change = statistics.fmean(apart) if apart else float("nan")
        lines.append(
            f"  {name:14s} {value:9.5f}  {change:+7.3f} % +- {error:.3f}  {rounds:5.0f} rounds, {len(mine)} seeds"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.categories"))
