"""(a) Reads everything into memory with pyarrow; one QuantileDMatrix, all threads.  `in_memory_ordered`: rows in our order."""

import pyarrow.parquet as pq
import xgboost as xgb

from benchmarks.competitors.common import Stopwatch, auc, finish, in_our_order, matrix, parse


def main(*, ordered: bool = False) -> None:
    task, watch = parse(), Stopwatch()
    values, label = matrix(pq.read_table(task.train))
    held_values, held_label = matrix(pq.read_table(task.heldout))
    watch.lap("read")
    if ordered:
        values, label = in_our_order(values, label)
        watch.lap("order")
    params = task.xgboost_params()
    train = xgb.QuantileDMatrix(values, label, max_bin=task.max_bin, nthread=task.threads)
    del values
    heldout = xgb.QuantileDMatrix(held_values, held_label, ref=train, max_bin=task.max_bin, nthread=task.threads)
    watch.lap("matrix")
    booster = xgb.train(params, train, task.rounds, evals=[(heldout, "valid")], verbose_eval=False)
    watch.lap("rounds")
    booster.save_model(task.out / "model.ubj")
    score = auc(held_label, booster.inplace_predict(held_values))
    watch.lap("evaluate")
    finish(watch, score)


if __name__ == "__main__":
    main()
