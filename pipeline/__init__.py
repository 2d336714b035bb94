"""Dask pipeline from a folder of files to a trained boosted-tree model."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.cluster.connect import connect
    from pipeline.cluster.doctor import doctor
    from pipeline.data.describe import describe
    from pipeline.data.synthetic import generate
    from pipeline.job import Job
    from pipeline.model.artifact import Model
    from pipeline.model.evaluate import evaluate
    from pipeline.model.predict import predict_folder as predict
    from pipeline.run import TrainResult, train

__all__ = ["Job", "Model", "TrainResult", "connect", "describe", "doctor", "evaluate", "generate", "predict", "train"]

_HOMES = {
    "Job": "pipeline.job",
    "Model": "pipeline.model.artifact",
    "TrainResult": "pipeline.run",
    "connect": "pipeline.cluster.connect",
    "describe": "pipeline.data.describe",
    "doctor": "pipeline.cluster.doctor",
    "evaluate": "pipeline.model.evaluate",
    "generate": "pipeline.data.synthetic",
    "predict": "pipeline.model.predict",
    "train": "pipeline.run",
}


def __getattr__(name: str) -> Any:
    """Loads a verb when it is first asked for: `pipeline --help` need not wait for Dask."""
    if name not in _HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
