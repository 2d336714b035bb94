"""A small model of each kind, trained by plain XGBoost on files with a derived feature, categories and missing values."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost

from pipeline.config.job import Job
from pipeline.data.opened_sources import open_inputs
from pipeline.data.rows import RowPlan, load_rows
from pipeline.data.schema.target import Target
from pipeline.model.artifact import Model, ModelParts, save
from pipeline.model.assemble import ManifestInput, make_manifest
from pipeline.preprocess.apply import matrix
from pipeline.preprocess.features import Category, Levels, Number
from pipeline.preprocess.recipe import Recipe

CARRIERS = ("AA", "B6", "UA", "WN")
RECIPE = Recipe(
    features=(
        Number(name="distance", column="distance"),
        Category(name="carrier", column="carrier", levels=Levels(CARRIERS)),
        Number(name="speed", column="speed"),
    ),
    dropped={"year": "constant"},
)
TARGETS = {
    "binary": Target("late", "binary", "binary:logistic", (False, True)),
    "multiclass": Target("how", "multiclass", "multi:softprob", ("early", "late", "on time")),
    "regression": Target("delay", "regression", "reg:squarederror"),
    "quantiles": Target("delay", "regression", "reg:quantileerror"),
    "ranking": Target("grade", "ranking", "rank:ndcg"),
}
PARAMS = {
    "multiclass": {"num_class": 3},
    "quantiles": {"quantile_alpha": [0.1, 0.5, 0.9]},
}


def flights(rows: int, seed: int = 0) -> pa.Table:
    """Flights whose delay depends on all features, with missing values."""
    rng = np.random.default_rng(seed)
    distance = rng.normal(900, 200, rows).astype(np.float32)
    minutes = np.maximum(20, distance / 8 + rng.normal(0, 15, rows))
    carrier = rng.integers(0, len(CARRIERS), rows)
    delay = 4 * carrier + (minutes - distance / 8) + rng.normal(0, 5, rows)
    how = np.select([delay < 0, delay < 10], ["early", "on time"], "late")
    distance[rng.random(rows) < 0.05] = np.nan
    names = np.array(CARRIERS, dtype=object)[carrier]
    names[rng.random(rows) < 0.05] = None
    return pa.table(
        {
            "flight": pa.array(np.arange(rows) + 1_000),
            "year": pa.array(np.full(rows, 2013)),
            "distance": pa.array(distance),
            "minutes": pa.array(minutes),
            "carrier": pa.array(names),
            "delay": pa.array(delay),
            "how": pa.array(how),
            "grade": pa.array(np.clip(delay // 8, 0, 4).astype(np.int64)),
            "route": pa.array(np.arange(rows) // 10),
        }
    )


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,500 flights in three files of different sizes."""
    folder = tmp_path_factory.mktemp("flights")
    table = flights(2_500)
    for i, (start, rows) in enumerate(((0, 700), (700, 1_000), (1_700, 800))):
        pq.write_table(table.slice(start, rows), folder / f"part-{i}.parquet")
    return folder


@pytest.fixture(scope="session")
def make_model(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    """`make_model(kind, folder=None, params=...)`: trains and saves a model; one per kind unless a folder is given."""
    known: dict[str, Model] = {}

    def make(kind: str, folder: Path | None = None, **params: object) -> Model:
        if folder is None and kind in known:
            return known[kind]
        target = TARGETS[kind]
        job = _job(kind, files)
        inputs = open_inputs(job)
        plan = RowPlan(inputs.roles, inputs.derivation, target)
        rows = [load_rows(inputs.training, fragment, plan) for fragment in inputs.training.fragments]
        block = np.concatenate([matrix(RECIPE, part.table) for part in rows])
        group = np.concatenate([part.group for part in rows]) if target.kind == "ranking" else None
        data = xgboost.QuantileDMatrix(
            block,
            np.concatenate([part.label for part in rows]),
            qid=group,
            feature_names=list(RECIPE.names),
            feature_types=list(RECIPE.kinds),
            enable_categorical=True,
        )
        settings = {"objective": target.objective, "max_depth": 5, "nthread": 1, **PARAMS.get(kind, {}), **params}
        booster = xgboost.train(settings, data, 12)
        trained = ManifestInput(target, RECIPE, 12, 12, {"train": len(block)}, datetime(2026, 1, 2, tzinfo=UTC))
        manifest = make_manifest(inputs, job, trained)
        parts = ModelParts(bytes(booster.save_raw("ubj")), RECIPE, manifest, {"train": {"auc": 0.5}}, "# card\n")
        model = save(folder or tmp_path_factory.mktemp("models") / kind, parts)
        if folder is None:
            known[kind] = model
        return model

    return make


def _job(kind: str, files: Path) -> Job:
    target = TARGETS[kind]
    data = {
        "source": str(files),
        "target": target.column,
        "id": ["flight"],
        "exclude": [name for name in ("delay", "how", "grade", "route") if name not in (target.column, "route")],
        "derive": {"late": "delay > 8", "speed": "distance / minutes"},
        "where": "minutes > 25",
    }
    if kind == "ranking":
        data |= {"group": "route"}
    else:
        data["exclude"].append("route")
    if target.column != "late":
        data["derive"] = {"speed": data["derive"]["speed"]}
    quantiles = {"quantiles": [0.1, 0.5, 0.9]} if kind == "quantiles" else {}
    return Job.parse({"data": data, "training": {"objective": target.objective, "rounds": 100, **quantiles}})
