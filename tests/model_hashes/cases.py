"""The named cases: deterministic rows, one job each, and the hashes of the model folder that it leads to."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client

import pipeline
from pipeline.config.job import Job
from pipeline.data import fragments
from pipeline.events.types import Event, Placed, RoundDone
from tests.interrupted import train_interrupted

HASHED = ("model.ubj", "recipe.json")
LIBRARIES = ("xgboost", "numpy", "pyarrow", "dask", "distributed")  # whose versions decide the bytes
FILES, FILE_ROWS, QUERY_ROWS, ROUNDS = 8, 150, 15, 6
INTERRUPTED_ROUNDS = 3  # after which the first run of the resumed case ends
COLUMNS = ("a", "b", "level", "shop", "town", "hour", "gaps", "rare", "weight", "query")
TARGETS = ("late", "minutes", "kind", "grade")


@dataclass(frozen=True)
class Case:
    """A target, the columns that become features, and the job's further fields."""

    target: str = "late"
    features: tuple[str, ...] = ("a", "b")
    data: Mapping[str, Any] = field(default_factory=dict)
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    resumed: bool = False

    def job(self, source: Path, model: Path, rounds: int = ROUNDS) -> Job:
        used = {*self.features, self.target, self.data.get("weight"), self.data.get("group")}
        params = {"max_depth": 4, "learning_rate": 0.5, "colsample_bynode": 1, **self.training.get("params", {})}
        return Job.parse(
            {
                "data": {
                    "source": str(source), "target": self.target, "validation": {"share": 0.25}, **self.data,
                    "exclude": [name for name in (*COLUMNS, *TARGETS) if name not in used],
                },
                "preprocess": dict(self.preprocess),
                "training": {"seed": 3, **self.training, "rounds": rounds, "params": params},
                "output": {"model": str(model), "report": False},
            }
        )  # fmt: skip

    def with_row_order(self, row_order: str) -> "Case":
        """The same case; queries of a ranking stay in source order."""
        return self if "group" in self.data else replace(self, training={**self.training, "row_order": row_order})


SAMPLED = {"row_sample": 0.5, "params": {"colsample_bynode": 0.5}}

CASES: dict[str, Case] = {
    "binary": Case(),
    "regression": Case("minutes", ("a", "b", "hour")),
    "multi-class": Case("kind"),
    "ranking": Case("grade", data={"group": "query"}, training={"objective": "rank:ndcg"}),
    "quantile": Case("minutes", training={"objective": "reg:quantileerror", "quantiles": [0.1, 0.5, 0.9]}),
    "categories": Case(features=("a", "level", "town")),  # `level` splits natively, `town` is target-encoded
    "many levels": Case(features=("a", "shop")),  # few rows for each: their splits are bounded
    "missing": Case(
        features=("b", "gaps", "rare"),
        preprocess={"columns": {"gaps": {"impute": "mean", "indicator": True, "standardise": True}}},
    ),
    "weights": Case("minutes", data={"weight": "weight"}),
    "row sampling": Case(training=SAMPLED),
    "loss-guided": Case(training={"params": {"grow_policy": "lossguide", "max_leaves": 12, "max_depth": 0}}),
    "matrix on disk": Case(training={"matrix": "disk"}),
    "resumed": Case(training=SAMPLED, resumed=True),
}


def make_table() -> pa.Table:
    """All columns, by integer arithmetic; the divisors are powers of two, so that every float is exact."""
    rng, rows = np.random.default_rng(2026), FILES * FILE_ROWS
    a, b, level, town, hour, noise, weight, gap, rare = (
        rng.integers(low, high, rows)
        for low, high in (
            (-1000, 1000), (0, 100), (0, 6), (0, 300), (0, 9_000), (-300, 300), (1, 9), (0, 10), (0, 10),
        )
    )  # fmt: skip
    signal = a + 8 * b * (level == 2) + 60 * (town % 5) + hour // 24 % 7 * 20 + noise
    return pa.table(
        {
            "a": a / 8,
            "b": b,
            "level": np.array(["north", "east", "south", "west", "up", "down"])[level],
            "shop": np.char.add("shop ", (town % 50).astype(str)),
            "town": np.char.add("town ", town.astype(str)),
            "hour": np.datetime64("2024-01-01", "s") + (hour * 3600).astype("timedelta64[s]"),
            "gaps": pa.array(a / 4, mask=gap == 0),
            "rare": pa.array(noise / 2, mask=rare > 1),
            "weight": weight / 4,
            "query": np.arange(rows) // QUERY_ROWS,
            "late": np.where(signal > 200, "yes", "no"),
            "minutes": signal / 4,
            "kind": np.array(["low", "middle", "high"])[(signal > -200).astype(int) + (signal > 500)],
            "grade": (signal > 0).astype(int) + (signal > 300) + (signal > 700),
        }
    )


def write_source(folder: Path) -> Path:
    """The rows as several Parquet files."""
    folder.mkdir()
    table = make_table()
    for number in range(FILES):
        pq.write_table(table.slice(number * FILE_ROWS, FILE_ROWS), folder / f"{number}.parquet")
    return folder


@dataclass(frozen=True)
class Outcome:
    """What one training wrote, and how it ran."""

    hashes: dict[str, str]  # file -> SHA-256
    worker_rows: tuple[int, ...]  # by rank
    rounds: tuple[int, ...]  # of the RoundDone events


def train(client: Client, case: Case, source: Path, model: Path) -> Outcome:
    """Trains a case into the folder `model`; the resumed one with an interruption after some rounds."""
    with fragment_per_file():
        if case.resumed:
            train_interrupted(client, case.job(source, model, INTERRUPTED_ROUNDS))
        heard: list[Event] = []
        resume = model if case.resumed else None
        pipeline.train(client, case.job(source, model), listen=heard.append, resume=resume)
    (placed,) = (event for event in heard if isinstance(event, Placed))
    return Outcome(
        hashes={name: hashlib.sha256((model / name).read_bytes()).hexdigest() for name in HASHED},
        worker_rows=tuple(place.rows for place in placed.workers),
        rounds=tuple(event.round for event in heard if isinstance(event, RoundDone)),
    )


@contextmanager
def fragment_per_file() -> Iterator[None]:
    """However small the files are, each is a fragment: two workers both get rows."""
    with mock.patch.object(fragments, "MIN_FRAGMENT_NBYTES", 1):
        yield


def system() -> str:
    return f"{platform.system()} {platform.machine()}"


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def cpu_features() -> list[str]:
    """The instruction sets beyond the baseline that NumPy finds on this CPU."""
    found: list[str] = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])  # type: ignore[index,call-overload]
    return found


def record(client_for: Callable[[int], Client], folder: Path) -> dict[str, Any]:
    """The content of hashes.json; ValueError where one and two workers give different bytes."""
    source, cases = write_source(folder / "data"), {}
    for name, case in CASES.items():
        one, two = (train(client_for(workers), case, source, folder / f"{name} {workers}") for workers in (1, 2))
        if one.hashes != two.hashes:
            raise ValueError(f"{name}: the bytes depend on the number of workers: {one.hashes}, {two.hashes}")
        cases[name] = one.hashes
    return {"system": system(), "cpu_features": cpu_features(), "versions": versions(), "cases": cases}
