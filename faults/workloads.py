"""Defines the jobs of the trials: one for each kind of objective or storage whose model an interruption might change.

All of them read the same synthetic flights, and each needs about 30 rounds at least: faults happen at rounds.
"""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.synthetic.generator import Chunk, file_name, make_table, plan_chunks

ROWS = 24_000  # three fragments: even the slower of two workers gets some
FILES = 6  # of the source
QUERY_ROWS = 25
CHECKPOINT_ROUNDS = 10
COMMON = f"""
[training]
seed = 3
checkpoint_rounds = {CHECKPOINT_ROUNDS}
"""
ENDING = """
[cluster]
device = "cpu"
dashboard = false

[output]
model = "out/model"
report = false
"""
DATA = """
[data]
source = "data"
fragment_mib = 1
validation.share = 0.2
"""
LATE = """
target = "late"
exclude = ["query", "dep_delay", "taxi_out", "arr_delay"]
"""
LATE_BY_SQL = """
target = "delayed"
exclude = ["late", "query", "dep_delay", "taxi_out", "arr_delay"]
derive.delayed = "arr_delay > 15"
"""

# name: of [data], of [training], of other sections.
_JOBS: dict[str, tuple[str, str, str]] = {
    "binary": (
        LATE,
        """
rounds = 200
early_stopping = 20
row_sample = 0.7
params = {eta = 0.1, max_depth = 6, colsample_bytree = 0.8}
""",
        "",
    ),
    # No row sampling: XGBoost gives rows of weight 0 a hessian of 1e-16 here, so that the last bit of a node's
    # cover depends on the order in which rows are added.
    "multi-class": (
        """
target = "delay"
exclude = ["late", "query", "dep_delay", "taxi_out", "arr_delay"]
derive.delay = "CASE WHEN arr_delay > 45 THEN 'long' WHEN arr_delay > 15 THEN 'short' ELSE 'none' END"
""",
        """
rounds = 60
early_stopping = 0
params = {eta = 0.1, max_depth = 5, colsample_bynode = 0.8}
""",
        "",
    ),
    "ranking": (
        """
target = "grade"
group = "query"
exclude = ["dep_delay", "taxi_out", "arr_delay"]
derive.grade = "CASE WHEN arr_delay > 45 THEN 3 WHEN arr_delay > 15 THEN 1 ELSE 0 END"
""",
        """
objective = "rank:ndcg"
rounds = 60
early_stopping = 0
row_sample = 0.8
params = {eta = 0.1, max_depth = 5}
""",
        "",
    ),
    "quantile": (
        """
target = "arr_delay"
exclude = ["late", "query", "dep_delay", "taxi_out"]
""",
        """
objective = "reg:quantileerror"
quantiles = [0.1, 0.5, 0.9]
rounds = 60
early_stopping = 0
params = {eta = 0.2, max_depth = 5}
""",
        "",
    ),
    "categories": (
        LATE_BY_SQL,
        """
rounds = 60
early_stopping = 0
row_sample = 0.8
params = {eta = 0.1, grow_policy = "lossguide", max_leaves = 24, max_depth = 0, max_cat_to_onehot = 2}
""",
        """
[preprocess.columns]
carrier.encoding = "codes"
origin.encoding = "codes"
dest.encoding = "target"
tailnum.encoding = "hash"
""",
    ),
    "early stopping": (
        """
target = "arr_delay"
exclude = ["late", "query", "dep_delay", "taxi_out"]
""",
        """
objective = "reg:squarederror"
metrics = ["mae", "rmse"]
rounds = 200
early_stopping = 8
row_sample = 0.6
params = {eta = 0.05, max_depth = 5}
""",
        "",
    ),
    "matrix on disk": (
        LATE_BY_SQL,
        """
rounds = 60
early_stopping = 0
row_sample = 0.7
matrix = "disk"
params = {eta = 0.1, max_depth = 6}
""",
        "",
    ),
}
WORKLOADS = tuple(_JOBS)
USUAL = "binary"


def write_job(path: Path, workload: str) -> None:
    """Writes the job's file; its data are in `data` next to it."""
    data, training, others = _JOBS[workload]
    path.write_text("".join((DATA, data.lstrip(), COMMON, training.lstrip(), others, ENDING)), encoding="utf-8")


def write_sources(data: Path, spare: Path) -> None:
    """Writes the files that all jobs read, and a similar one with other rows."""
    data.mkdir()
    chunks = plan_chunks("flights", ROWS, 11, FILES)
    for chunk in chunks:
        _write(data / file_name(chunk), chunk)
    _write(spare, Chunk("flights", seed=12, index=0, first_row=0, rows=chunks[0].rows))


def _write(path: Path, chunk: Chunk) -> None:
    """Writes a chunk with a target, and a column of queries, whose rows must be next to each other."""
    table = make_table(chunk)
    query = chunk.first_row // QUERY_ROWS + chunk.index + np.arange(len(table)) // QUERY_ROWS
    late = pc.greater(table["arr_delay"], 15)
    pq.write_table(table.append_column("query", [query]).append_column("late", late), path)
