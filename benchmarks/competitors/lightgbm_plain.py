"""Trains LightGBM in one process with all threads; `lightgbm_quantized` is the same with quantised gradients,
`lightgbm_ordered` with the rows in our order.
"""

import lightgbm as lgb
import numpy as np
import pyarrow.parquet as pq

from benchmarks.competitors.common import Stopwatch, auc, finish, in_our_order, matrix, parse


def main(*, ordered: bool = False, **more: object) -> None:
    task, watch = parse(), Stopwatch()
    params = {
        "objective": "binary",
        "metric": "binary_logloss",
        "max_depth": task.depth,
        "num_leaves": 2**task.depth,
        "max_bin": task.max_bin,
        "learning_rate": task.learning_rate,
        "num_threads": task.threads,
        "verbosity": -1,
        **more,
    }
    values, label = matrix(pq.read_table(task.train))
    held_values, held_label = matrix(pq.read_table(task.heldout))
    watch.lap("read")
    if ordered:
        values, label = in_our_order(values, label)
        watch.lap("order")
    train = lgb.Dataset(values, label, params=params).construct()
    del values
    heldout = lgb.Dataset(held_values, held_label, reference=train, params=params, free_raw_data=False).construct()
    watch.lap("matrix")
    booster = lgb.train(params, train, task.rounds, valid_sets=[heldout])
    watch.lap("rounds")
    booster.save_model(task.out / "model.txt")
    score = auc(held_label, np.asarray(booster.predict(held_values)))
    watch.lap("evaluate")
    finish(watch, score)


if __name__ == "__main__":
    main()
