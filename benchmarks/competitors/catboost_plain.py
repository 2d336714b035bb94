"""Trains CatBoost in one process with all threads; its trees are symmetric, of the same depth."""

import catboost
import numpy as np
import pyarrow.parquet as pq

from benchmarks.competitors.common import Stopwatch, auc, finish, matrix, parse


def main() -> None:
    task, watch = parse(), Stopwatch()
    values, label = matrix(pq.read_table(task.train))
    held_values, held_label = matrix(pq.read_table(task.heldout))
    watch.lap("read")
    train, heldout = catboost.Pool(values, label), catboost.Pool(held_values, held_label)
    borders = {"border_count": task.max_bin - 1, "task_type": "CPU"}
    train.quantize(**borders)
    del values
    watch.lap("matrix")
    model = catboost.CatBoostClassifier(
        iterations=task.rounds, depth=task.depth, learning_rate=task.learning_rate, thread_count=task.threads,
        use_best_model=False, allow_writing_files=False, logging_level="Silent",
    )  # fmt: skip
    model.fit(train, eval_set=heldout)
    watch.lap("rounds")
    model.save_model(str(task.out / "model.cbm"))
    score = auc(held_label, np.asarray(model.predict_proba(heldout))[:, 1])
    watch.lap("evaluate")
    finish(watch, score)


if __name__ == "__main__":
    main()
