"""Compares models on held-out rows: cuts from this project's sample against XGBoost's own sketch of all rows.

    python -m benchmarks.quality --data adult --data numeric-1250000x28

A pair is a seed of the data and a seed of the sample.  The seed of the data chooses the fifth of the rows that is held
out (and the rows themselves where they are generated: numeric-1250000x28 trains on 1,000,000).  The seed of the sample
chooses the rows that the cuts are made of, and the folds of target encodings.  Both models get the same features,
categories as the same codes, and the same parameters.  Plain XGBoost gets the rows (the queries) in an order that the
pair chooses: its sketch depends on it, so that its own noise is part of the differences.

Each pair is added to the record as soon as it is measured, and those in the record are not measured again.  Prints the
mean difference in each set (above 0: this project's model is better) and its standard error, over the seeds of the
data.  "worse" means by more than one standard error: that happens by chance to one set in six.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import xgboost

from benchmarks import record
from benchmarks.local_preparation import Ready, prepare
from benchmarks.named_rows import NamedRows, job_of
from benchmarks.quality_report import Pair, table
from benchmarks.resumable import ResumableRecord
from pipeline.cli.terminal import run
from pipeline.cluster.affinity import cores
from pipeline.config.encoding import ENCODING
from pipeline.config.job import Job, Validation
from pipeline.config.metric_registry import METRICS, round_metrics
from pipeline.data.rows import TRAIN, VALIDATION, load_rows
from pipeline.errors import JobError
from pipeline.metrics.exact import evaluate
from pipeline.preprocess.apply import matrix
from pipeline.preprocess.fit import weigh
from pipeline.training.xgboost.matrix import build_partition

DATA = (
    "adult", "rank", "covertype", "nycflights13", "green_taxi", "numeric-1250000x28", "numeric-2500000x28",
    "numeric-10000000x28",
)  # fmt: skip
HELD_OUT = 0.2
KEY = ("data", "data_seed", "sample_seed")  # of a pair in the record


@dataclass(frozen=True)
class Settings:
    """Of the models."""

    rounds: int
    depth: int
    learning_rate: float
    sample_rows: int | None  # None: the job's
    threads: int

    @property
    def recorded(self) -> dict[str, Any]:
        """Those that the pairs of one record share."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "threads"}


@dataclass(frozen=True)
class FeatureRows:
    """Rows as a user of plain XGBoost would have them."""

    values: np.ndarray  # (rows, features) float32, NaN where missing
    label: np.ndarray  # (rows,) float32
    weight: np.ndarray | None  # (rows,) float32
    group: np.ndarray | None  # (rows,) int64 key of the row's query

    def take(self, places: np.ndarray) -> "FeatureRows":
        """The rows at `places`."""
        weight, group = (None if array is None else array[places] for array in (self.weight, self.group))
        return FeatureRows(self.values[places], self.label[places], weight, group)

    def query_starts(self) -> np.ndarray:
        """The position of each query's first row and the number of rows, (queries + 1,) int64."""
        assert self.group is not None
        changes = np.flatnonzero(self.group[1:] != self.group[:-1]) + 1
        return np.concatenate([[0], changes, [len(self.group)]])

    def shuffled(self, rng: np.random.Generator) -> "FeatureRows":
        """The rows in a random order; of ranking the queries, each of them whole."""
        if self.group is None:
            return self.take(rng.permutation(len(self.label)))
        queries = np.split(np.arange(len(self.label)), self.query_starts()[1:-1])
        return self.take(np.concatenate([queries[number] for number in rng.permutation(len(queries))]))


@click.command(help=__doc__)
@click.option("--data", "names", multiple=True, default=DATA, show_default=True, help="Of benchmarks/named_rows.py.")
@click.option("--data-seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--sample-seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--sample-rows", type=click.IntRange(1_000), help="Default: the job's.")
@click.option("--rounds", type=click.IntRange(1), default=100, show_default=True)
@click.option("--depth", type=click.IntRange(1), default=8, show_default=True)
@click.option("--learning-rate", type=float, default=0.1, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=cores, help="Default: the cores.")
@click.option("--name", default="quality", show_default=True, help="Of the record.")
def command(names: Sequence[str], data_seeds: int, sample_seeds: int, name: str, **settings: Any) -> int:
    seeds = [(data, sample) for data in range(data_seeds) for sample in range(sample_seeds)]
    print(table(measure(names, seeds, Settings(**settings), name)))
    return 0


def measure(
    names: Sequence[str],
    seeds: Sequence[tuple[int, int]],
    settings: Settings,
    name: str,
    folder: Path = record.RESULTS,
) -> list[Pair]:
    """Adds the pairs of seeds that the record lacks; returns all that it has.  JobError if it has other settings."""
    asked = settings.recorded
    kept = ResumableRecord(
        name, folder, {"benchmark": "quality", "starts": [], "settings": asked, "pairs": []}, "pairs", KEY
    )
    if (there := kept.full["settings"]) != asked:
        raise JobError(f"the record {name}.json has the settings {there}, not {asked}: choose another --name")
    for data in names:
        for data_seed in dict.fromkeys(first for first, _ in seeds):
            wanted = [second for first, second in seeds if first == data_seed]
            missing = [one for one in wanted if not kept.has(data=data, data_seed=data_seed, sample_seed=one)]
            with tempfile.TemporaryDirectory(prefix="quality-") as cache:
                for sample_seed in missing:
                    pair = compare(data, (data_seed, sample_seed), settings, Path(cache))
                    kept.add(pair)
                    print(pair, flush=True)
    return kept.all


def held_out(job: Job, seed: int, sample_rows: int | None) -> Job:
    """The job with a fifth of its rows held out, which `seed` chooses."""
    preprocess = (
        job.preprocess if sample_rows is None else job.preprocess.model_copy(update={"sample_rows": sample_rows})
    )
    return job.model_copy(
        update={
            "data": job.data.model_copy(update={"validation": Validation(share=HELD_OUT)}),
            "training": job.training.model_copy(update={"seed": seed}),
            "preprocess": preprocess,
        }
    )


def compare(data: str, seeds: tuple[int, int], settings: Settings, cache: Path) -> Pair:
    """Trains both models of a pair; `seeds`: of the data and of the sample."""
    data_seed, sample_seed = seeds
    ready = prepare(held_out(job_of(data, cache, data_seed), data_seed, settings.sample_rows), sample_seed=sample_seed)
    threads = settings.threads
    params = NamedRows(data, ready).params(settings.depth, threads, settings.learning_rate)
    with xgboost.config_context(nthread=threads, verbosity=0):
        ours = _ours(ready, params, settings.rounds, threads)
        train = feature_rows(ready, TRAIN)
        plain, points = _plain(ready, train.shuffled(np.random.default_rng(seeds)), params, settings.rounds)
        rows = feature_rows(ready, VALIDATION)
        scores = [_scores(ready, booster, rows) for booster in (ours, plain)]
    return {
        "data": data, "data_seed": data_seed, "sample_seed": sample_seed, "rows": len(train.label),
        "held_out": len(rows.label), "features": rows.values.shape[1], "objective": params["objective"],
        "unevenness": unevenness(train.values, (ready.fitted.cuts.points, points)),
        "metrics": {metric: [score[metric] for score in scores] for metric in _metrics(ready)},
    }  # fmt: skip


def _metrics(ready: Ready) -> list[str]:
    """The exact metrics that judge: the one that decides early stopping, and AUC of two classes."""
    (*_, deciding) = round_metrics(ready.target.objective)
    names = [METRICS[deciding].exact or deciding]
    return [*names, "auc"] if ready.target.kind == "binary" else names


def _ours(ready: Ready, params: dict[str, Any], rounds: int, threads: int) -> xgboost.Booster:
    fitted = ready.fitted
    matrix_ = build_partition(ready.blocks, fitted.cuts, fitted.recipe.names, threads=threads).train.matrix
    return xgboost.train(params, matrix_, rounds)


def _plain(
    ready: Ready, rows: FeatureRows, params: dict[str, Any], rounds: int
) -> tuple[xgboost.Booster, list[np.ndarray]]:
    """The model, and the cuts of each feature, (cuts,) float32."""
    fitted = ready.fitted
    assert rows.weight is None or rows.group is None  # XGBoost weighs whole queries
    matrix_ = xgboost.QuantileDMatrix(
        rows.values,
        rows.label,
        weight=rows.weight,
        group=None if rows.group is None else np.diff(rows.query_starts()),
        feature_names=list(fitted.recipe.names),
        feature_types=["q" if levels is None else "c" for levels in fitted.cuts.levels],
        enable_categorical=True,
        max_bin=int(params["max_bin"]),
    )
    starts, points = matrix_.get_quantile_cut()
    booster = xgboost.train({**params, "tree_method": "hist"}, matrix_, rounds)
    return booster, np.split(points, starts[1:-1].astype(np.int64))


def unevenness(values: np.ndarray, cuts: Sequence[Sequence[np.ndarray]]) -> list[float] | None:
    """How uneven the bins are that several `cuts` make of `values` (rows, features), each by feature.

    The coefficient of variation of the rows in a feature's bins, empty ones left out: the median over the features that
    have more values than bins; None if there are none.
    """
    found = []
    for feature, points in enumerate(zip(*cuts, strict=True)):
        column = values[:, feature]
        column = np.sort(column[~np.isnan(column)])
        if len(points[0]) and np.count_nonzero(np.diff(column)) > ENCODING.codes:
            found.append([_variation(column, np.sort(one)) for one in points])
    return np.median(found, axis=0).tolist() if found else None


def _variation(column: np.ndarray, points: np.ndarray) -> float:
    counts = np.diff(np.concatenate([[0], np.searchsorted(column, points), [len(column)]]))
    counts = counts[counts > 0]
    return float(counts.std() / counts.mean())


def _scores(ready: Ready, booster: xgboost.Booster, rows: FeatureRows) -> Mapping[str, Any]:
    predicted = booster.inplace_predict(rows.values, validate_features=False)
    target = ready.target
    return evaluate(target.kind, target.objective, predicted, rows.label, rows.weight, rows.group)


def feature_rows(ready: Ready, use: int) -> FeatureRows:
    """The rows of one use as features, in the order of the source; training rows have out-of-fold encodings."""
    parts = list(_feature_parts(ready, use))
    values, label, weight, group = zip(*parts, strict=True)
    return FeatureRows(np.concatenate(values), np.concatenate(label), _joined(weight), _joined(group))


def _feature_parts(
    ready: Ready, use: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]]:
    """Values, label, weight and group of each fragment."""
    for unit, payload in ready.units:
        rows = load_rows(unit.source, unit.fragment, unit.rows, payload)
        assert rows.use is not None
        assert rows.label is not None
        mask = rows.use == use
        folds = rows.fold_key[mask] if use == TRAIN else None
        values = matrix(ready.fitted.recipe, rows.table.filter(pa.array(mask)), fold_keys=folds)
        weight = weigh(rows.label, rows.weight, ready.fitted.class_weight)
        arrays = (None if array is None else array[mask] for array in (weight, rows.group))
        yield values, rows.label[mask], *arrays


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.quality"))
