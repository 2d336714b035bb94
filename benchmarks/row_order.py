"""Compares orders of the rows in memory: what boosting rounds cost with the rows of each block sorted by a key.

    python -m benchmarks.row_order --rounds 300

For each data set one matrix per order is built of the same blocks, and all are boosted in one process, five rounds of
each in turn: other load on the machine affects all of them.  "source" is there twice: two matrices with the same
content differ by where their memory lies.  Prints the ratio to the mean of both, of CPU seconds, after 10, 100 and all
rounds.  All trees have to be the same, splits and leaves: exit code 1 if they are not.  The record says, too, whether
the model files are: XGBoost's sums of hessians as small as 1e-16, of very certain predictions, depend on the order in
their last bit.
"""

import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
from pipeline.data.rows import TRAIN
from pipeline.preprocess import row_order
from pipeline.training.xgboost.matrix import build_partition

DATA = (
    "numeric-2000000x28", "numeric-1000000x28", "numeric-500000x8", "numeric-400000x128", "flights-2000000",
    "flights-500000", "nycflights13", "green_taxi", "covertype", "adult",
)  # fmt: skip
CHUNK_ROUNDS = 5
MARKS = (10, 100)  # rounds after which the sums are reported, besides the last one

Codes = np.ndarray  # (rows, features)
Key = Callable[[Codes], np.ndarray]  # (rows,) sorted by


@dataclass
class Lane:
    """One order's matrix, and what its rounds have cost."""

    matrix: xgboost.DMatrix
    booster: xgboost.Booster
    fit_seconds: float  # CPU, to find the key
    sort_seconds: float  # CPU, to sort all blocks
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def sample_of(rows: NamedRows) -> tuple[Codes, np.ndarray]:
    """Codes and labels of training rows, evenly drawn, as many as a training takes."""
    blocks = rows.ready.blocks
    codes = np.concatenate([np.asarray(block.codes)[block.rows_for(TRAIN)] for block in blocks])
    label = np.concatenate([block.label[block.rows_for(TRAIN)] for block in blocks])
    places = np.linspace(0, len(label) - 1, min(len(label), row_order.sample_rows(rows.features))).astype(int)
    return codes[places], label[places]


def halves(rows: NamedRows, codes: Codes, label: np.ndarray) -> Key:
    """The key that a training uses."""
    return row_order.fit_row_order(codes, label, None, rows.ready.fitted.cuts.levels, rows.classes).keys


def matrix_of(rows: NamedRows, codes: Codes, label: np.ndarray | None = None) -> xgboost.DMatrix:
    """Codes as features of XGBoost's."""
    types = ["q" if count is None else "c" for count in rows.ready.fitted.cuts.levels]
    return xgboost.DMatrix(values(codes), label, feature_types=types, enable_categorical=True, nthread=1)


def small_model(rows: NamedRows, codes: Codes, label: np.ndarray, depth: int, rounds: int) -> xgboost.Booster:
    """A few coarse trees of a sample."""
    return xgboost.train({**rows.params(depth, 1), "max_bin": 64}, matrix_of(rows, codes, label), rounds)


def tree(depth: int) -> Callable[[NamedRows, Codes, np.ndarray], Key]:
    """The leaf of one of XGBoost's trees."""

    def fit(rows: NamedRows, codes: Codes, label: np.ndarray) -> Key:
        booster = small_model(rows, codes, label, depth, 1)
        return lambda codes: booster.predict(matrix_of(rows, codes), pred_leaf=True).reshape(len(codes), -1)[:, 0]

    return fit


def morton(features: int) -> Callable[[NamedRows, Codes, np.ndarray], Key]:
    """One bit, whether a row is in the upper half, of each of the features with most gain in ten small trees."""

    def fit(rows: NamedRows, codes: Codes, label: np.ndarray) -> Key:
        levels = rows.ready.fitted.cuts.levels
        gains: Mapping[str, Any] = small_model(rows, codes, label, 6, 10).get_score(importance_type="total_gain")
        chosen = [int(name[1:]) for name in sorted(gains, key=lambda name: -gains[name])][:features]
        mass, centred = np.ones(len(label)), label - label.mean(dtype=np.float64)
        bits = {f: row_order._Halves(codes[:, f], mass, centred, levels[f]).bit for f in chosen}

        def key(codes: Codes) -> np.ndarray:
            found = np.zeros(len(codes), np.uint16)
            for feature in chosen:
                found = 2 * found + bits[feature][codes[:, feature]]
            return found

        return key

    return fit


def values(codes: Codes) -> np.ndarray:
    """The codes as float32, missing ones as NaN."""
    found = codes.astype(np.float32)
    found[codes == ENCODING.missing] = np.nan
    return found


ORDERS: Mapping[str, Callable[[NamedRows, Codes, np.ndarray], Key] | None] = {
    "source": None,
    "source again": None,
    "key": halves,
    "tree": tree(10),
    "morton": morton(8),
}


@click.command(help=__doc__)
@click.option("--data", "names", multiple=True, default=DATA, show_default=True)
@click.option("--order", "orders", multiple=True, type=click.Choice(list(ORDERS)), default=list(ORDERS))
@click.option("--rounds", type=click.IntRange(10), default=300, show_default=True)
@click.option("--depth", type=click.IntRange(1), default=8, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=cores, help="Default: the cores.")
@click.option(
    "--cache", type=click.Path(path_type=Path), help="Keeps generated rows there; default: a temporary folder."
)
@click.option("--name", default="row_order", show_default=True, help="Of the record; an empty one: none is written.")
def command(
    names: Sequence[str], orders: Sequence[str], rounds: int, depth: int, threads: int, cache: Path | None, name: str
) -> int:
    circumstances, found = record.circumstances(), []
    with tempfile.TemporaryDirectory(prefix="row-order-") as scratch:
        for data in names:
            found.append(compare(named_rows(data, cache or Path(scratch)), orders, rounds, depth, threads))
            print(table(found[-1]), flush=True)
            if name:
                settings = {"rounds": rounds, "depth": depth, "threads": threads}
                record.write(name, {"benchmark": "row_order", **circumstances, "settings": settings, "results": found})
    return 0 if all(one["equal_trees"] for one in found) else 1


def compare(rows: NamedRows, orders: Sequence[str], rounds: int, depth: int, threads: int) -> dict[str, Any]:
    """Boosts on the rows in every order, a few rounds of each in turn."""
    params = rows.params(depth, threads)
    with xgboost.config_context(nthread=threads, verbosity=0):
        lanes = {order: lane(rows, order, params, threads) for order in orders}
        for start in range(0, rounds, CHUNK_ROUNDS):
            turns = list(lanes.values())
            for one in turns if start // CHUNK_ROUNDS % 2 else reversed(turns):
                boost(one, range(start, min(start + CHUNK_ROUNDS, rounds)))
    files = {hashlib.sha256(one.booster.save_raw("ubj")).hexdigest() for one in lanes.values()}
    trees = {hashlib.sha256("".join(one.booster.get_dump()).encode()).hexdigest() for one in lanes.values()}
    return {
        "data": rows.name, "rows": rows.training_rows, "features": rows.features, "objective": params["objective"],
        "blocks": len(rows.ready.blocks), "equal_trees": len(trees) == 1, "equal_files": len(files) == 1,
        "orders": {order: summary(one, lanes, rounds) for order, one in lanes.items()},
    }  # fmt: skip


def lane(rows: NamedRows, order: str, params: Mapping[str, object], threads: int) -> Lane:
    """Builds the matrix of an order."""
    fit, ready, begin = ORDERS[order], rows.ready, time.process_time()
    key = None if fit is None else fit(rows, *sample_of(rows))
    fitted = time.process_time()
    blocks = ready.blocks
    if key is not None:
        blocks = tuple(block.reordered(np.argsort(key(np.asarray(block.codes)), kind="stable")) for block in blocks)
    sorted_at = time.process_time()
    matrix = build_partition(blocks, ready.fitted.cuts, ready.fitted.recipe.names, threads=threads).train.matrix
    return Lane(matrix, xgboost.Booster(dict(params), [matrix]), fitted - begin, sorted_at - fitted)


def boost(one: Lane, rounds: Sequence[int]) -> None:
    for number in rounds:
        cpu, wall = time.process_time(), time.perf_counter()
        one.booster.update(one.matrix, number)
        one.cpu.append(time.process_time() - cpu)
        one.wall.append(time.perf_counter() - wall)


def summary(one: Lane, lanes: Mapping[str, Lane], rounds: int) -> dict[str, Any]:
    """Returns the sums of an order's rounds, and their ratios to those in source order."""
    of_source = [other for order, other in lanes.items() if order.startswith("source")] or list(lanes.values())
    marks = sorted({mark for mark in (*MARKS, rounds) if mark <= rounds})

    def ratio(what: str, upto: int) -> float:
        base = statistics.fmean(sum(getattr(other, what)[:upto]) for other in of_source)
        return round(sum(getattr(one, what)[:upto]) / base, 4)

    return {
        "fit_cpu_seconds": round(one.fit_seconds, 3), "sort_cpu_seconds": round(one.sort_seconds, 3),
        "cpu_seconds": round(sum(one.cpu), 2), "wall_seconds": round(sum(one.wall), 2),
        "cpu_ratio": {str(upto): ratio("cpu", upto) for upto in marks},
        "wall_ratio": {str(upto): ratio("wall", upto) for upto in marks},
    }  # fmt: skip


def table(found: Mapping[str, Any]) -> str:
    lines = [f"{found['data']}: {found['rows']:,} x {found['features']}, {found['objective']}"]
    for order, one in found["orders"].items():
        ratios = "  ".join(f"{upto}: {ratio:.3f}" for upto, ratio in one["cpu_ratio"].items())
        lines.append(
            f"  {order:14s} {one['cpu_seconds']:8.2f} CPU s  {one['wall_seconds']:7.2f} s   ratio by rounds  {ratios}"
            f"   fit {one['fit_cpu_seconds']:.2f}, sort {one['sort_cpu_seconds']:.2f} CPU s"
        )
    return "\n".join([*lines, *([] if found["equal_trees"] else ["  THE TREES DIFFER"])])


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.row_order"))
