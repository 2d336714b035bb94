"""What an expert would write by hand for each workflow: pandas and `xgboost.train`, nothing of this project.

    python -m tests.workflows.reference ../shared/data

prints the metric of each on the workflow's validation rows; the floors in test_workflows.py come from here.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet
import xgboost
from sklearn.datasets import load_svmlight_files

ROUNDS = 30
HASHED = 0.2  # the share that validates where a workflow takes a hash of the row


def flights(data: Path) -> dict[str, float]:
    frame = pyarrow.dataset.dataset(data / "nycflights13", partitioning="hive").to_table().to_pandas()
    frame = frame[frame.arr_delay.notna()]
    label = (frame.pop("arr_delay") > 15).astype(np.float32)
    frame = frame.drop(columns=["dep_time", "dep_delay", "arr_time", "air_time"])
    held_out = frame.month.isin([11, 12])
    for name in ("carrier", "tailnum", "origin", "dest"):
        frame[name] = frame[name].astype("category")
    frame = _out_of_fold(frame, "tailnum", label, ~held_out)
    params = {"objective": "binary:logistic", "max_depth": 8, "eval_metric": ["logloss", "auc"]}
    return _train(frame, label, held_out, params)


def taxi(data: Path) -> dict[str, float]:
    files = sorted((data / "green_taxi").glob("*.parquet"))
    frame = pd.concat([pyarrow.parquet.read_table(file).to_pandas() for file in files], ignore_index=True)
    pickup, dropoff = frame.lpep_pickup_datetime, frame.lpep_dropoff_datetime
    frame["minutes"] = (dropoff - pickup).dt.total_seconds() / 60
    frame["hour"], frame["weekday"] = pickup.dt.hour, pickup.dt.day_of_week
    keep = frame.minutes.between(1, 120) & (frame.trip_distance < 100)
    frame, pickup = frame[keep], pickup[keep]
    label = frame.pop("minutes").astype(np.float32)
    features = [
        "VendorID",
        "RatecodeID",
        "PULocationID",
        "DOLocationID",
        "passenger_count",
        "trip_distance",
        "trip_type",
    ]
    frame = frame[[*features, "hour", "weekday"]].astype(np.float32)
    held_out = pickup >= pickup.quantile(0.8)
    params = {"objective": "reg:squarederror", "max_depth": 8, "eval_metric": ["rmse"]}
    return _train(frame, label, held_out, params)


def adult(data: Path) -> dict[str, float]:
    names = [
        "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship",
        "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income",
    ]  # fmt: skip
    train, test = (
        pd.read_csv(data / "adult" / name, names=names, skipinitialspace=True, na_values="?")
        for name in ("adult.data", "adult.test")
    )
    frame = pd.concat([train, test], ignore_index=True)
    label = frame.pop("income").str.startswith(">50K").astype(np.float32)
    for name in frame.select_dtypes(exclude="number"):
        frame[name] = frame[name].astype("category")
    held_out = pd.Series(frame.index >= len(train))
    return _train(frame, label, held_out, {"objective": "binary:logistic", "eval_metric": ["logloss", "auc"]})


def covertype(data: Path) -> dict[str, float]:
    frame = pd.read_csv(data / "covertype" / "covertype.csv.gz").astype(np.float32)
    label = frame.pop("Cover_Type") - 1
    held_out = pd.Series(np.random.default_rng(0).random(len(frame)) < HASHED)
    params = {"objective": "multi:softprob", "num_class": 7, "max_depth": 8, "eval_metric": ["merror", "mlogloss"]}
    return _train(frame, label, held_out, params)


def rank(data: Path) -> dict[str, float]:
    folder = data / "rank"
    train, train_label, test, test_label = load_svmlight_files([folder / "rank.train", folder / "rank.test"])
    matrices = []
    for rows, label, name in ((train, train_label, "rank.train"), (test, test_label, "rank.test")):
        dense = rows.toarray().astype(np.float32)
        matrices.append(xgboost.DMatrix(dense, label, group=np.loadtxt(folder / f"{name}.query", dtype=int)))
    params = {"objective": "rank:ndcg", "eval_metric": ["ndcg@5", "ndcg@10"]}
    return _boost(params, *matrices)


def _out_of_fold(frame: pd.DataFrame, name: str, label: pd.Series, training: pd.Series) -> pd.DataFrame:
    """The column replaced by the mean label of its level, smoothed, out of five folds in training rows."""
    fold = pd.Series(np.random.default_rng(0).integers(0, 5, len(frame)), index=frame.index)
    coded = pd.Series(np.nan, index=frame.index)
    for number in range(6):
        known = training & (fold != number)
        rows = ~training if number == 5 else training & (fold == number)
        stats = label[known].groupby(frame.loc[known, name], observed=True).agg(["sum", "count"])
        mean = (stats["sum"] + 20 * label[known].mean()) / (stats["count"] + 20)
        coded[rows] = frame.loc[rows, name].map(mean).astype(float)
    return frame.assign(**{name: coded})


def _train(frame: pd.DataFrame, label: pd.Series, held_out: pd.Series, params: dict) -> dict[str, float]:
    rows = ~held_out.to_numpy()
    train, test = (xgboost.DMatrix(frame[mask], label[mask], enable_categorical=True) for mask in (rows, ~rows))
    return _boost(params, train, test)


def _boost(params: dict, train: xgboost.DMatrix, test: xgboost.DMatrix) -> dict[str, float]:
    history: dict = {}
    params = {"max_bin": 255, "nthread": 2, **params}
    xgboost.train(params, train, ROUNDS, evals=[(test, "test")], evals_result=history, verbose_eval=False)
    return {
        "train rows": train.num_row(),
        "rows": test.num_row(),
        **{k: round(v[-1], 5) for k, v in history["test"].items()},
    }


if __name__ == "__main__":
    for workflow in (flights, taxi, adult, covertype, rank):
        print(workflow.__name__, workflow(Path(sys.argv[1])))  # noqa: T201
