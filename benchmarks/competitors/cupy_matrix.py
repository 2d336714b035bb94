"""Trains on a GPU: everything in one CuPy matrix, then plain `xgboost.train`."""

import cupy as cp
import pyarrow.parquet as pq
import xgboost as xgb

from benchmarks.competitors.common import Stopwatch, auc, finish, matrix, parse


def main() -> None:
    task, watch = parse(), Stopwatch()
    table = pq.read_table(task.train)
    watch.lap("read")
    values, label = matrix(table)
    del table
    values, label = cp.asarray(values), cp.asarray(label)
    cp.cuda.Stream.null.synchronize()
    watch.lap("to_gpu")
    held_values, held_label = matrix(pq.read_table(task.heldout))
    held_gpu = cp.asarray(held_values)
    params = {**task.xgboost_params(), "device": "cuda"}
    train = xgb.QuantileDMatrix(values, label, max_bin=task.max_bin)
    heldout = xgb.QuantileDMatrix(held_gpu, held_label, ref=train, max_bin=task.max_bin)
    cp.cuda.Stream.null.synchronize()
    watch.lap("matrix")
    booster = xgb.train(params, train, task.rounds, evals=[(heldout, "valid")], verbose_eval=False)
    cp.cuda.Stream.null.synchronize()
    watch.lap("rounds")
    booster.save_model(task.out / "model.ubj")
    score = auc(held_label, cp.asnumpy(booster.inplace_predict(held_gpu)))
    watch.lap("evaluate")
    finish(watch, score, matrix_nbytes=int(values.nbytes))


if __name__ == "__main__":
    main()
