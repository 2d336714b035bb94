"""Trains boosted-tree models from a folder of files, on the machines you have.

    import pipeline

    job = pipeline.Job.load("workflows/flights.toml")
    with pipeline.connect(job) as client:
        model = pipeline.train(client, job).model
        pipeline.predict(client, model, "new_data/", out="predictions/")
    model.predict(frame)  # one process, no cluster

Terms used everywhere: a *job* is the user's request; a *source* is files, cut into *fragments*; a *block* is a fragment
as a matrix; a *recipe* is the fitted preprocessing; *cuts* are the global bin borders; a *model* is a folder.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config.job import Job
    from pipeline.data.describe import describe
    from pipeline.data.synthetic.generator import generate
    from pipeline.inference.evaluate import evaluate
    from pipeline.inference.predict import predict
    from pipeline.model.artifact import Model
    from pipeline.planning.plan import Plan
    from pipeline.run.connect import connect
    from pipeline.run.doctor import doctor
    from pipeline.run.prepared import Prepared, prepare
    from pipeline.run.resource_plan import plan
    from pipeline.run.train import TrainResult, train
    from pipeline.scaling.plan import Plan as ScalePlan
    from pipeline.scaling.plan import ScaleOptions as ScaleWish
    from pipeline.scaling.scale import scale

__all__ = [
    "Job", "Model", "Plan", "Prepared", "ScalePlan", "ScaleWish", "TrainResult",
    "connect", "describe", "doctor", "evaluate", "generate", "plan", "predict", "prepare", "scale", "train",
]  # fmt: skip

_HOMES = {
    "Job": "pipeline.config.job:Job",
    "Model": "pipeline.model.artifact:Model",
    "Plan": "pipeline.planning.plan:Plan",
    "ScalePlan": "pipeline.scaling.plan:Plan",
    "ScaleWish": "pipeline.scaling.plan:ScaleOptions",
    "TrainResult": "pipeline.run.train:TrainResult",
    "connect": "pipeline.run.connect:connect",
    "describe": "pipeline.data.describe:describe",
    "doctor": "pipeline.run.doctor:doctor",
    "evaluate": "pipeline.inference.evaluate:evaluate",
    "generate": "pipeline.data.synthetic.generator:generate",
    "plan": "pipeline.run.resource_plan:plan",
    "predict": "pipeline.inference.predict:predict",
    "prepare": "pipeline.run.prepared:prepare",
    "Prepared": "pipeline.run.prepared:Prepared",
    "scale": "pipeline.scaling.scale:scale",
    "train": "pipeline.run.train:train",
}


def __getattr__(name: str) -> Any:
    """Loads a verb on first use: `pipeline --help` need not wait for Dask."""
    if name not in _HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    if _in_notebook():
        value = importlib.import_module("pipeline.cli.notebook").for_notebook(value)
    globals()[name] = value
    return value


def _in_notebook() -> bool:
    """Whether this process is an IPython kernel, as in Jupyter and in editors."""
    ipython = sys.modules.get("IPython")  # every kernel loads it before any user code
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None


def __dir__() -> list[str]:
    """The public names: loaded submodules are not among them."""
    return sorted(__all__)
