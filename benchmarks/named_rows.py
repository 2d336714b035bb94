"""Prepares named data sets in this process, as a training prepares them: synthetic ones, and the real ones of workflows/.

Names: numeric-ROWSxFEATURES and flights-ROWS are generated; nycflights13, green_taxi, covertype, adult and rank are read
from the folder PIPELINE_DATA, by default ../shared/data.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.local_preparation import Ready, prepare
from pipeline.config.job import Job
from pipeline.data.rows import TRAIN
from pipeline.data.synthetic import generator
from pipeline.errors import JobError
from pipeline.events.types import discard

ROOT = Path(__file__).resolve().parent.parent
# Workflow, source, and further fields.
REAL = {
    "nycflights13": ("flights", "nycflights13", ()),
    "green_taxi": ("taxi", "green_taxi/*.parquet", ()),
    "covertype": ("covertype", "covertype/covertype.csv.gz", ()),
    "adult": ("adult", "adult/adult.data", ("data.validation.source=adult/adult.test",)),
    "rank": ("rank", "rank/rank.train", ("data.validation.source=rank/rank.test",)),
}
GENERATED = {"numeric": "label", "flights": "arr_delay"}


@dataclass(frozen=True)
class NamedRows:
    """A data set's rows as blocks, in source order."""

    name: str
    ready: Ready

    @property
    def training_rows(self) -> int:
        return sum(len(block.label[block.rows_for(TRAIN)]) for block in self.ready.blocks)

    @property
    def features(self) -> int:
        return len(self.ready.fitted.cuts)

    @property
    def classes(self) -> int:
        """Classes of a multi-class task, else 0."""
        target = self.ready.target
        return len(target.classes) if target.kind == "multiclass" else 0

    def params(self, depth: int, threads: int, learning_rate: float = 0.1) -> dict[str, object]:
        """XGBoost's parameters for these rows."""
        params: dict[str, object] = {
            "objective": self.ready.target.objective, "max_depth": depth, "learning_rate": learning_rate, "max_bin": 256,
            "nthread": threads, "base_score": 0.5 if self.classes else self._mean(),
        }  # fmt: skip
        return {**params, "num_class": self.classes} if self.classes else params

    def _mean(self) -> float:
        mean = self.ready.fitted.mean_label
        return float(np.clip(mean, 1e-7, 1 - 1e-7)) if self.ready.target.objective.startswith("binary:") else mean


def named_rows(name: str, cache: Path, seed: int = 0) -> NamedRows:
    """Generates or reads a data set, and prepares it; `cache`: where generated files are kept.  JobError if unknown."""
    return NamedRows(name, prepare(job_of(name, cache, seed)))


def job_of(name: str, cache: Path, seed: int = 0) -> Job:
    """The job of a named data set, without validation rows where it is generated."""
    if name in REAL:
        workflow, source, more = REAL[name]
        folder = Path(os.environ.get("PIPELINE_DATA", ROOT.parent / "shared" / "data"))
        settings = [f"data.source={folder / source}", *(part.replace("=", f"={folder}/", 1) for part in more)]
        return Job.load(ROOT / "workflows" / f"{workflow}.toml", settings)
    found = re.fullmatch(r"(numeric|flights)-(\d+)(?:x(\d+))?", name)
    if found is None:
        raise JobError(f"{name}: expected numeric-ROWSxFEATURES, flights-ROWS, or one of {', '.join(REAL)}")
    kind, rows, features = found[1], int(found[2]), int(found[3] or 28)
    folder = cache / f"{name}-seed{seed}"
    if not folder.exists():
        generator.generate(folder, rows=rows, seed=seed, kind=kind, features=features, listen=discard)  # type: ignore[arg-type]  # kind: one of the pattern's
    return Job.parse({"data": {"source": str(folder), "target": GENERATED[kind]}})
