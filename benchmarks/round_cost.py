"""Measures what a boosting round costs beyond XGBoost's own: this project's loop against a plain one on one matrix.

    python -m benchmarks.round_cost --data numeric-1000000x28

In one process, without a cluster, in turn: plain XGBoost; this project's rounds without metrics; and both with a tenth of
the rows held out and two metrics of these in every round.  Prints the medians of wall and CPU seconds of the rounds, and
the ratios to plain XGBoost without metrics.  The models of all have to be the same: exit code 1 if they are not.
With MALLOC_TRIM_THRESHOLD_=65536, as in Dask's workers, plain XGBoost maps its buffers anew in every round.
"""

import dataclasses
import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import xgboost

from benchmarks import record
from benchmarks.named_rows import NamedRows, named_rows
from pipeline.cli.terminal import run
from pipeline.cluster.affinity import cores
from pipeline.config.encoding import ENCODING
from pipeline.config.xgboost import ModelShape, xgboost_params
from pipeline.data.rows import TRAIN, VALIDATION
from pipeline.preprocess.block import Block
from pipeline.training.xgboost.matrix import Partition, build_partition
from pipeline.training.xgboost.rounds import RoundHooks, train_rounds
from pipeline.training.xgboost.spec import RoundsSpec

METRICS = ("logloss", "auc")
HELD_OUT = 10  # every tenth row
Sample = dict[str, Any]  # wall and CPU seconds of the rounds, and the model's hash


@click.command(help=__doc__)
@click.option(
    "--data", default="numeric-1000000x28", show_default=True, help="A binary task of benchmarks/named_rows.py."
)
@click.option("--rounds", type=click.IntRange(2), default=50, show_default=True)
@click.option("--depth", type=click.IntRange(1), default=8, show_default=True)
@click.option("--repeat", type=click.IntRange(1), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=cores, help="Default: the cores.")
@click.option("--name", default="round_cost", show_default=True, help="Of the record; an empty one: none is written.")
def command(data: str, rounds: int, depth: int, repeat: int, threads: int, name: str) -> int:
    circumstances = record.circumstances()
    with tempfile.TemporaryDirectory(prefix="round-cost-") as cache:
        ways = ways_of(named_rows(data, Path(cache)), rounds, depth, threads)
    samples: dict[str, list[Sample]] = {way: [] for way in ways}
    for number in range(repeat):
        for way in list(ways) if number % 2 else list(ways)[::-1]:
            samples[way].append(ways[way]())
    found = summary(samples)
    for way, one in found.items():
        print(
            f"{way:28s} {one['wall_seconds']:7.2f} s ({one['wall_ratio']:.3f})  "
            f"{one['cpu_seconds']:7.2f} CPU s ({one['cpu_ratio']:.3f})"
        )
    equal = len({sample["sha256"] for every in samples.values() for sample in every}) == 1
    if name:
        environment = {key: value for key, value in os.environ.items() if key.startswith(("MALLOC_", "OMP_", "GOMP_"))}
        settings = {
            "environment": environment,
            "data": data,
            "rounds": rounds,
            "depth": depth,
            "threads": threads,
            "repeat": repeat,
        }
        full = {"settings": settings, "results": found, "equal_models": equal, "samples": samples}
        record.write(name, {"benchmark": "round_cost", **circumstances, **full})
    return 0 if equal else 1


def ways_of(rows: NamedRows, rounds: int, depth: int, threads: int) -> Mapping[str, Callable[[], Sample]]:
    """The ways to boost; all on the same matrix of training rows."""
    fitted = rows.ready.fitted
    blocks = [held_out(block) for block in rows.ready.blocks]
    partition = build_partition(blocks, fitted.cuts, fitted.recipe.names, threads=threads)
    no_rows = build_partition([], fitted.cuts, fitted.recipe.names, threads=threads)
    bare = dataclasses.replace(partition, validation=no_rows.validation)
    params = xgboost_params(
        rows.ready.target.objective, ModelShape(tuple(fitted.recipe.names)), fitted.mean_label,
        {"max_depth": depth, "learning_rate": 0.1}, seed=0,
    )  # fmt: skip

    def spec(metrics: tuple[str, ...]) -> RoundsSpec:
        return RoundsSpec(run="cost", params=params, rounds=rounds, metrics=metrics, threads=threads)

    def plain(metrics: tuple[str, ...]) -> Sample:
        evals = [(partition.validation.matrix, "validation")] if metrics else []
        all_params = {**params, "nthread": threads, "max_bin": ENCODING.codes, "eval_metric": list(metrics)}
        with xgboost.config_context(nthread=threads, verbosity=0):
            wall, cpu = time.perf_counter(), time.process_time()
            booster = xgboost.Booster(all_params, [partition.train.matrix, *(matrix for matrix, _ in evals)])
            for number in range(rounds):  # as `xgboost.train` does, which refuses matrices with a common `ref`
                booster.update(partition.train.matrix, number)
                if evals:
                    booster.eval_set(evals, number)
            return sample(wall, cpu, booster)

    def ours(of: Partition, metrics: tuple[str, ...]) -> Sample:
        ends: list[float] = []
        hooks = RoundHooks(hand_over=lambda state, leaving: ends.extend((time.perf_counter(), time.process_time())))
        wall, cpu = time.perf_counter(), time.process_time()
        model = train_rounds(of, spec(metrics), hooks=hooks).model
        found = sample(wall, cpu, xgboost.Booster(model_file=bytearray(model)))
        return {**found, "wall_seconds": ends[0] - wall, "cpu_seconds": ends[1] - cpu}

    return {
        "XGBoost": lambda: plain(()),
        "this project": lambda: ours(bare, ()),
        "XGBoost, metrics": lambda: plain(METRICS),
        "this project, metrics": lambda: ours(partition, METRICS),
    }


def held_out(block: Block) -> Block:
    """The block with a tenth of its rows to validate on."""
    use = np.full(len(block.label), TRAIN, np.uint8)
    use[::HELD_OUT] = VALIDATION
    return dataclasses.replace(block, use=use)


def sample(wall: float, cpu: float, booster: xgboost.Booster) -> Sample:
    spent = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    trees = "".join(booster.get_dump(dump_format="json"))  # the model's bytes hold the metrics' names, too
    return {**spent, "sha256": hashlib.sha256(trees.encode()).hexdigest()}


def summary(samples: Mapping[str, list[Sample]]) -> dict[str, dict[str, float]]:
    """Medians by way, and their ratios to plain XGBoost's."""

    def median(way: str, what: str) -> float:
        return statistics.median(one[what] for one in samples[way])

    return {
        way: {
            f"{kind}_{form}": median(way, f"{kind}_seconds") / (median("XGBoost", f"{kind}_seconds") if ratio else 1)
            for kind in ("wall", "cpu")
            for form, ratio in (("seconds", False), ("ratio", True))
        }
        for way in samples
    }


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.round_cost"))
