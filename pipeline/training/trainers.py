"""Lists the trainers by name."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from pipeline.training.trainer import Trainer


def _xgboost() -> "Trainer[Any]":
    from pipeline.training.xgboost.trainer import XGBoostTrainer  # late: it imports XGBoost

    return XGBoostTrainer()


DEFAULT = "xgboost"
TRAINERS: Mapping[str, Callable[[], "Trainer[Any]"]] = {"xgboost": _xgboost}


def trainer_named(name: str = DEFAULT) -> "Trainer[Any]":
    """Returns a trainer.  ModelError for a name that is not in the table, e.g. of a file by a later version."""
    if name not in TRAINERS:
        raise ModelError(f"trainer {name!r}: this version has {', '.join(TRAINERS)}")
    return TRAINERS[name]()
