"""The target: what kind of task its values make, its classes, and labels as float32."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["binary", "multiclass", "regression", "ranking"]
ClassValue = str | int | float | bool


@dataclass(frozen=True)
class Target:
    """The column to predict, and what it makes of the task."""

    column: str
    kind: Kind
    objective: str  # an XGBoost objective
    classes: tuple[ClassValue, ...] = ()  # sorted; binary: (negative, positive); empty unless classification
    rows: tuple[int, ...] = ()  # rows per class, in the order of `classes`
