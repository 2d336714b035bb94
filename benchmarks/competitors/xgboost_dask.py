"""Trains with `xgboost.dask` on a local cluster, as its documentation shows it.

The frame is persisted before it is split into features and label: lazily, as documented, training stops with
"Partitions between X and label are not consistent", because Dask fuses the files of each projection differently.
"""

import dask.dataframe as dd
import pyarrow.parquet as pq
from distributed import Client, LocalCluster, wait
from xgboost import dask as dxgb

from benchmarks.competitors.common import LABEL, Stopwatch, Task, auc, finish, matrix, parse


def load(client: Client, path: str, max_bin: int, ref: dxgb.DaskQuantileDMatrix | None) -> dxgb.DaskQuantileDMatrix:
    frame = dd.read_parquet(path).persist()
    wait(frame)
    return dxgb.DaskQuantileDMatrix(client, frame.drop(columns=LABEL), frame[LABEL], max_bin=max_bin, ref=ref)


def train(client: Client, task: Task, watch: Stopwatch) -> None:
    watch.lap("connect")
    matrix_train = load(client, str(task.train), task.max_bin, None)
    matrix_heldout = load(client, str(task.heldout), task.max_bin, matrix_train)
    watch.lap("read")
    params = {**task.xgboost_params(), "nthread": task.threads // task.workers}
    output = dxgb.train(client, params, matrix_train, task.rounds, evals=[(matrix_heldout, "valid")])
    watch.lap("rounds")
    booster = output["booster"]
    booster.save_model(task.out / "model.ubj")
    values, label = matrix(pq.read_table(task.heldout))
    score = auc(label, booster.inplace_predict(values))
    watch.lap("evaluate")
    finish(watch, score)


def main() -> None:
    task, watch = parse(), Stopwatch()
    threads = max(1, task.threads // task.workers)
    size = {"n_workers": task.workers, "threads_per_worker": threads}
    with LocalCluster(**size, dashboard_address="127.0.0.1:0") as cluster, Client(cluster) as client:
        train(client, task, watch)


if __name__ == "__main__":
    main()
