"""Example data for the report: one of each kind of target, with the texts that people do not expect."""

import numpy as np

from pipeline.data.schema.target import Target
from pipeline.efficiency.account import Account, StageTime
from pipeline.metrics.curves import curves
from pipeline.metrics.exact import evaluate
from pipeline.reports.data import Bar, ReportColumn, ReportData

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)> $$x^2$$ & 'quoted'"
STAGES = {
    "import": 1.21, "connect": 0.62, "metadata": 0.05, "survey": 0.31, "statistics": 1.42, "blocks": 2.17,
    "matrix": 2.05, "rounds": 13.71, "evaluate": 0.48, "report": 0.71, "save": 0.06, "other": 0.11,
}  # fmt: skip
ACCOUNT = Account(
    seconds=21.0,
    slots={"0": 1, "1": 1},
    workers={"0": StageTime(15.0, 0.8, 0.9, 2.2, 1.7), "1": StageTime(14.6, 0.8, 1.4, 2.3, 1.8)},
    stages={
        "reading": StageTime(2.9, 0.0, 0.3, 1.6, 0.5),
        "rounds": StageTime(26.7, 1.6, 2.0, 2.9),
        "saving": StageTime(idle=3.0),
    },
    notes=("a note of the account",),
)
TARGETS = {
    "binary": Target("late", "binary", "binary:logistic", ("on time", "late"), (12_000, 3_000)),
    "multiclass": Target("cover", "multiclass", "multi:softprob", ("aspen", "fir", "krummholz", "pine", "spruce"), ()),
    "regression": Target("trip_seconds", "regression", "reg:squarederror"),
    "ranking": Target("relevance", "ranking", "rank:ndcg"),
}


def scores(kind: str, rows: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(prediction, label, group) with a real signal."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(0, 1, rows)
    if kind == "binary":
        probability = 1 / (1 + np.exp(1.4 - 1.6 * hidden))
        return probability.astype(np.float32), (rng.random(rows) < probability).astype(np.float32), None
    if kind == "multiclass":
        label = rng.integers(0, 5, rows)
        raw = np.exp(rng.normal(0, 1, (rows, 5)) + 2.2 * np.eye(5)[label])
        return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32), label.astype(np.float32), None
    if kind == "regression":
        label = np.exp(6.4 + 0.6 * hidden)
        return (label * np.exp(rng.normal(0, 0.2, rows))).astype(np.float32), label.astype(np.float32), None
    label = np.clip(np.round(hidden + 1), 0, 4)
    return (label + rng.normal(0, 1.2, rows)).astype(np.float32), label.astype(np.float32), np.arange(rows) // 20


def example(kind: str, rounds: int = 100) -> ReportData:
    """A run of `kind` as a report is given it."""
    target = TARGETS[kind]
    metrics, drawn = {}, {}
    for seed, use in enumerate(("train", "validation")):
        prediction, label, group = scores(kind, seed=seed)
        metrics[use] = evaluate(kind, target.objective, prediction, label, None, group)
        drawn[use] = curves(kind, target.objective, prediction, label, None, group)
    features = ["dep_hour", "origin", "distance", "carrier", "a_very_long_name_of_a_feature_that_goes_on_and_on", NASTY]
    features += [f"feature {i}" for i in range(24)]
    rng = np.random.default_rng(3)
    step = np.arange(rounds)
    falling = 0.42 + 0.27 * np.exp(-step / 14)
    history = {
        "train.auc": 1 - falling / 3, "validation.auc": 0.98 - falling / 3 - 0.0001 * step,
        "train.logloss": falling, "validation.logloss": falling + 0.012 + 0.000006 * (step - 70) ** 2,
    }  # fmt: skip
    bars, clock = [], 2.0
    for stage in ("survey", "statistics", "blocks", "matrix", "rounds", "evaluate"):
        for worker in ("worker 0", "worker 1"):
            start = clock
            for _ in range(8 if stage in ("statistics", "blocks") else 1):
                took = STAGES[stage] / (8 if stage in ("statistics", "blocks") else 1) * rng.uniform(0.8, 1)
                bars.append(Bar(worker, stage, start, start + took))
                start += took
        clock += STAGES[stage]
    return ReportData(
        title="flights-2026-01-02",
        created="2 January 2026, 10:04 UTC",
        target=target,
        metrics=metrics,
        history={name: values.tolist() for name, values in history.items()},
        best_round=min(71, rounds),
        gain={name: float(1 / (i + 1.5)) for i, name in enumerate(features)},
        permutation={name: float(0.05 / (i + 1) ** 1.5 * rng.uniform(0.5, 1.5)) for i, name in enumerate(features)},
        permutation_unit="log loss added by shuffling, 4,096 training rows",
        curves=drawn,
        facts={"training rows": "261,344", "validation rows": "65,002", "features": "30", "workers": "2", "dropped": "9,430"},
        columns=[
            ReportColumn("dep_hour", "int64", "feature", 0.0, 24, "0", "23"),
            ReportColumn("carrier", "string", "feature", 0.024, 16),
            ReportColumn("distance", "double", "feature", 0.18, 214, "17", "4983"),
            ReportColumn("year", "int64", "left out: constant", 0.0, 1, "2013", "2013"),
            ReportColumn(NASTY, "string", "feature", 0.61, 1_044),
            ReportColumn("late", "bool", "target", 0.02, 2),
        ],
        stages=STAGES,
        timeline=bars,
        account=ACCOUNT,
        job={"data": {"source": "flights/*.parquet", "target": "late", "derive": {"late": "arr_delay > 15"}, "positive": None},
             "training": {"rounds": 100, "params": {"max_depth": 8, NASTY: 1}}},
        notes=["arr_delay is left out: the target late is made of it", f"column {NASTY} has 61 % missing values"],
        versions={"dask-train-pipeline": "0.1.0", "xgboost": "3.4.1", "dask": "2026.7.1", "python": "3.12.11"},
    )  # fmt: skip
