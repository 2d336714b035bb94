"""Reads any files of a folder with pyarrow; texts as their codes or as categories; one QuantileDMatrix, all threads."""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import xgboost as xgb

from benchmarks.competitors.common import Stopwatch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--depth", type=int, required=True)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--categories", action="store_true", help="texts are categories")
    task = parser.parse_args()
    watch = Stopwatch()
    table = read(sorted(task.train.iterdir()))
    watch.lap("read")
    label = codes(table[task.target])
    names = [name for name in table.column_names if name != task.target]
    values = np.empty((table.num_rows, len(names)), dtype=np.float32)
    for place, name in enumerate(names):
        values[:, place] = codes(table[name])
    texts = [pa.types.is_string(table[name].type) and task.categories for name in names]
    del table
    watch.lap("values")
    types = ["c" if text else "q" for text in texts]
    matrix = xgb.QuantileDMatrix(
        values, label, max_bin=255, nthread=task.threads, feature_types=types, enable_categorical=True
    )
    watch.lap("matrix")
    params = {"objective": "binary:logistic", "tree_method": "hist", "max_bin": 255, "max_depth": task.depth}
    booster = xgb.train({**params, "learning_rate": 0.1, "nthread": task.threads}, matrix, task.rounds)
    watch.lap("rounds")
    booster.save_model(task.out / "model.ubj")
    print(json.dumps({"seconds": watch.seconds}))


def read(files: list[Path]) -> pa.Table:
    if files[0].suffix == ".parquet":
        return pq.read_table(files[0].parent)
    return pa.concat_tables([pacsv.read_csv(file) for file in files], promote_options="permissive")


def codes(column: pa.ChunkedArray) -> np.ndarray:
    """(rows,) numbers: a text's place among the distinct ones as they come, NaN where missing."""
    if pa.types.is_string(column.type):
        column = column.combine_chunks().dictionary_encode().indices
    return np.asarray(column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy())


if __name__ == "__main__":
    main()
