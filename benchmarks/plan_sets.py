"""Data sets of all shapes, on which plans are compared with runs."""

import functools
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from benchmarks.small_job_shapes import ADULT, TARGET, adult_file, data_folder, numbers
from pipeline.config.job import Job

ROOT = Path(__file__).resolve().parent.parent
FILES = 8  # of generated rows
LEVELS = 20_000  # of each text of `texts`
Fields = dict[str, Any]  # of a job


@dataclass(frozen=True)
class PlanSet:
    """A data set and how it is trained on."""

    name: str
    title: str
    rounds: int
    training: Mapping[str, Any]  # fields of the job's `training`
    write: Callable[[Path, float], None] | None = None  # (folder, share of the rows): writes its files
    real: str = ""  # the folder of PIPELINE_DATA that its rows come from
    workflow: str = ""  # the job file that its fields come from
    data: Mapping[str, Any] | None = None  # fields of the job's `data`, besides source and target

    def available(self) -> bool:
        return not self.real or (data_folder() / self.real).exists()

    def job(self, cache: Path, share: float = 1.0) -> Fields:
        """The job's fields; writes the files that the cache does not hold."""
        fields: Fields = {"data": {}, "training": {}}
        if self.workflow:
            text = json.dumps(Job.load(ROOT / "workflows" / self.workflow).model_dump(exclude_unset=True))
            data = str(data_folder().resolve())  # the job is written to another folder
            fields = json.loads(text.replace(json.dumps(str(ROOT / "data"))[1:-1], json.dumps(data)[1:-1]))
        if self.write is not None:
            folder = cache.resolve() / f"{self.name}-{share:g}"
            if not folder.exists():
                partial = folder.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                self.write(partial, share)
                partial.rename(folder)
            fields["data"] = {"source": str(folder), "target": TARGET}
        fields["data"] |= self.data or {}
        params = {**fields["training"].get("params", {}), **self.training.get("params", {})}
        rest = {key: value for key, value in self.training.items() if key != "params"}
        fields["training"] = {**fields["training"], **rest, "rounds": self.rounds, "params": params}
        fields["training"].setdefault("early_stopping", 0)
        return fields


def _parquet(rows: int, features: int, folder: Path, share: float, missing: float = 0.0, classes: int = 2) -> None:
    """`rows` x `features` floats in FILES files of several row groups; the label follows from a few of them."""
    table = numbers(int(rows * share), features)
    rng = np.random.default_rng(1)
    if classes > 2:
        score = table["x0"].to_numpy() + table["x1"].to_numpy() * table["x2"].to_numpy()
        label = np.digitize(score, np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1])).astype(np.int8)
        names = np.array([f"class {number}" for number in range(classes)])
        table = table.set_column(table.column_names.index(TARGET), TARGET, pa.array(names[label]))
    if missing:
        columns = {TARGET: table[TARGET]}
        for name in table.column_names[1:]:
            columns[name] = pa.array(table[name].to_numpy(), mask=rng.random(table.num_rows) < missing)
        table = pa.table(columns)
    each = -(-table.num_rows // FILES)
    for number in range(FILES):
        part = table.slice(number * each, each)
        pq.write_table(part, folder / f"{number}.parquet", row_group_size=-(-each // 2))


def _csv(folder: Path, share: float) -> None:
    table = numbers(int(400_000 * share), 20)
    each = -(-table.num_rows // 4)
    for number in range(4):
        pacsv.write_csv(table.slice(number * each, each), folder / f"{number}.csv")


def _texts(folder: Path, share: float) -> None:
    rng, table = np.random.default_rng(1), numbers(int(200_000 * share), 8)
    for place in range(8):
        words = np.array([f"value {place} {level}" for level in range(LEVELS)])
        levels = np.minimum(rng.exponential(LEVELS / 10, table.num_rows).astype(np.int64), LEVELS - 1)
        table = table.append_column(f"c{place}", pa.array(words[levels]))
    each = -(-table.num_rows // 4)
    for number in range(4):
        pacsv.write_csv(table.slice(number * each, each), folder / f"{number}.csv")


def _adult(folder: Path, share: float) -> None:
    lines = adult_file().read_text(encoding="ascii").splitlines()
    cleaned = [line.replace(", ", ",") for line in lines[: int(len(lines) * share)] if line]
    (folder / "rows.csv").write_text("\n".join([ADULT, *cleaned]) + "\n", encoding="ascii")


def _rows(rows: int, features: int, **options: Any) -> Callable[[Path, float], None]:
    return functools.partial(_parquet, rows, features, **options)


def _depth(depth: int, **more: Any) -> dict[str, Any]:
    return {"params": {"max_depth": depth, **more}}


SHARE = {"validation": {"share": 0.2}}
SETS = {
    one.name: one
    for one in (
        PlanSet("adult", "UCI adult, CSV, 33 k x 14", 60, _depth(6), _adult, real="adult", data=SHARE),
        PlanSet("covertype", "gz CSV, 93 k x 53, 7 classes", 60, _depth(8), real="covertype", workflow="covertype.toml"),
        PlanSet("flights", "nycflights13, 327 k x 10", 60, _depth(8), real="nycflights13", workflow="flights.toml"),
        PlanSet("taxi", "green taxi, 401 k x 9", 60, _depth(8), real="green_taxi", workflow="taxi.toml"),
        PlanSet("narrow", "Parquet, 1 M x 8", 60, _depth(6), _rows(1_000_000, 8)),
        PlanSet("wide", "Parquet, 100 k x 400", 60, _depth(6), _rows(100_000, 400)),
        PlanSet("deep", "Parquet, 300 k x 28, depth 12", 60, _depth(12), _rows(300_000, 28)),
        PlanSet("classes10", "Parquet, 300 k x 28, 10 classes", 30, _depth(6), _rows(300_000, 28, classes=10)),
        PlanSet("texts", "CSV, 200 k x 16, 8 of them texts of many values", 60, _depth(6), _texts),
        PlanSet("holes", "Parquet, 500 k x 28, a tenth missing", 60, _depth(6), _rows(500_000, 28, missing=0.1)),
        PlanSet("csv", "CSV, 400 k x 20", 60, _depth(6), _csv),
        PlanSet("long", "Parquet, 2 M x 12", 60, _depth(6), _rows(2_000_000, 12)),
        PlanSet("verywide", "Parquet, 4 k x 3,000", 30, _depth(6), _rows(4_000, 3_000)),
        PlanSet("rank", "LIBSVM, 3 k x 300, queries", 60, {}, real="rank", workflow="rank.toml"),
        PlanSet("leaves", "Parquet, 300 k x 20, 127 leaves, loss-guided", 60,
                _depth(0, grow_policy="lossguide", max_leaves=127), _rows(300_000, 20)),
        PlanSet("metrics", "Parquet, 300 k x 20, 30 % validate, 3 metrics", 60,
                {**_depth(6), "metrics": ["auc", "aucpr", "logloss"]}, _rows(300_000, 20), data={"validation": {"share": 0.3}}),
    )
}  # fmt: skip
NAMED = ("adult", "covertype", "flights", "taxi", "narrow", "wide", "deep", "classes10")
