"""(b) Trains with a DataIter, which decodes the files one by one in each of the matrix's passes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import xgboost as xgb

from benchmarks.competitors.common import Stopwatch, auc, finish, matrix, parse


class Files(xgb.DataIter):
    """Passes XGBoost one decoded file at a time."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.place = 0
        super().__init__(release_data=True)

    def next(self, input_data: Callable[..., Any]) -> bool:
        if self.place == len(self.paths):
            return False
        values, label = matrix(pq.read_table(self.paths[self.place]))
        input_data(data=values, label=label)
        self.place += 1
        return True

    def reset(self) -> None:
        self.place = 0


def main() -> None:
    task, watch = parse(), Stopwatch()
    params = task.xgboost_params()
    train = xgb.QuantileDMatrix(Files(sorted(task.train.iterdir())), max_bin=task.max_bin, nthread=task.threads)
    held_values, held_label = matrix(pq.read_table(task.heldout))
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
