"""Defines the state of a training between two rounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class State:
    """State of a training after a round: all that the next round depends on; seed and round decide what is random."""

    round: int  # rounds trained so far
    content: bytes = field(repr=False)  # the trainer's own, of all rounds
    history: Mapping[str, list[float]]  # "validation.auc" -> a value per round, NaN where not measured
    round_seconds: list[float]
    best_round: int  # of early stopping
    best: float  # the deciding metric in that round
    stopped: bool = False  # whether early stopping has ended the training
