"""Compares how OpenMP's threads wait for each other: boosting rounds on an idle and a busy machine.

    python -m benchmarks.openmp_waiting

Each sample is a separate process that boosts on synthetic rows with a thread on each core; samples of all policies take
turns.  Busy: a process on each core that only computes.  Prints the seconds of the rounds, their CPU seconds, and
whether the models are equal.  Other programs on the cores disturb the idle samples: run it on an idle machine.
"""

import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click
import xgboost

from benchmarks import record
from pipeline.cli.terminal import run
from pipeline.cluster.affinity import cores
from pipeline.scaling.synthetic import Synthetic, cuts_of, make_blocks
from pipeline.training.xgboost.matrix import build_partition

POLICIES: Mapping[str, Mapping[str, str]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 3,000": {"GOMP_SPINCOUNT": "3000"},
    "spin 30,000": {"GOMP_SPINCOUNT": "30000"},
}
SHAPES = (Synthetic(400_000, 28, 8), Synthetic(40_000, 32, 6))
HOG = "while True: pass"


@click.command(help=__doc__)
@click.option("--repeat", type=click.IntRange(1), default=5, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=60, show_default=True)
@click.option(
    "--name", default="openmp_waiting", show_default=True, help="Of the record; an empty one: none is written."
)
@click.option("--sample", "shape", type=click.IntRange(0), hidden=True, help="Boosts on the shape of this number.")
def command(repeat: int, rounds: int, name: str, shape: int | None) -> None:
    if shape is not None:
        print(json.dumps(boost(SHAPES[shape], rounds)))
        return
    circumstances = record.circumstances()
    found = []
    for number, data in enumerate(SHAPES):
        for hogs in (0, cores()):
            with _hogs(hogs):
                samples = [(policy, _sample(number, rounds, policy)) for _ in range(repeat) for policy in POLICIES]
            found.append({"shape": str(data), "hogs": hogs, **_summary(samples)})
            _print(found[-1])
    if name:
        record.write(name, {"circumstances": circumstances, "rounds": rounds, "results": found})


def boost(data: Synthetic, rounds: int) -> dict[str, Any]:
    """Trains in this process; returns seconds, CPU seconds and the model's SHA-256, without the time of the matrix."""
    threads = cores()
    with xgboost.config_context(nthread=threads, verbosity=0):
        blocks = make_blocks(data, 0, data.rows)
        matrix = build_partition(blocks, cuts_of(data), data.names, threads=threads).train.matrix
        params = {
            "objective": data.objective,
            "max_depth": data.depth,
            "max_bin": 256,
            "base_score": 0.5,
            "nthread": threads,
        }
        booster = xgboost.Booster(params, [matrix])
        wall, cpu = time.perf_counter(), time.process_time()
        for number in range(rounds):
            booster.update(matrix, number)
        spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    return {**spent, "sha256": hashlib.sha256(booster.save_raw("ubj")).hexdigest()}


def _sample(shape: int, rounds: int, policy: str) -> dict[str, Any]:
    arguments = [sys.executable, "-m", "benchmarks.openmp_waiting", "--sample", str(shape), "--rounds", str(rounds)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        arguments, env={**environment, **POLICIES[policy]}, capture_output=True, text=True, check=True
    )
    sample: dict[str, Any] = json.loads(done.stdout)
    return sample


@contextlib.contextmanager
def _hogs(count: int) -> Iterator[None]:
    """Runs `count` processes that compute all the time."""
    processes = [subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _summary(samples: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Returns medians by policy, the ratios to the default, whether all models are equal, and every sample."""
    medians = {
        policy: {
            what: statistics.median(sample[what] for of, sample in samples if of == policy)
            for what in ("seconds", "cpu_seconds")
        }
        for policy in POLICIES
    }
    ratios = {
        policy: {what: value / medians["default"][what] for what, value in found.items()}
        for policy, found in medians.items()
    }
    equal = len({sample["sha256"] for _, sample in samples}) == 1
    return {"medians": medians, "ratios": ratios, "equal_models": equal, "samples": samples}


def _print(found: Mapping[str, Any]) -> None:
    policies = ", ".join(
        f"{policy} {of['seconds']:.2f} s ({of['cpu_seconds']:.2f} CPU s)" for policy, of in found["medians"].items()
    )
    print(f"{found['shape']}, {found['hogs']} busy processes: {policies}; models equal: {found['equal_models']}")


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.openmp_waiting"))
