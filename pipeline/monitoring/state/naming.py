"""Handles names: of metrics, with the metric that judges a model; of workers, in their order.

A metric's name is a data set and a metric, "validation.auc"; a metric may have a decimal parameter:
"validation.error@0.3".
"""

import re
from collections.abc import Mapping

from pipeline.config.metric_registry import exact_name

VALIDATION = "validation"


def parted(name: str) -> tuple[str, str]:
    """
    >>> parted("validation.tweedie-nloglik@1.5"), parted("auc")
    (('validation', 'tweedie-nloglik@1.5'), ('', 'auc'))
    """
    data_set, dot, metric = name.partition(".")
    return (data_set, metric) if dot else ("", name)


def exact_of(deciding: str, metrics: Mapping[str, float]) -> str:
    """The exact metric that judges the model: the deciding one, else one of the same rows.

    >>> exact_of("validation.mlogloss", {"train.logloss": 0.4, "validation.auc": 0.9, "validation.logloss": 0.5})
    'validation.logloss'
    >>> exact_of("validation.merror", {"train.logloss": 0.4, "validation.auc": 0.9})
    'validation.auc'
    """
    data_set, metric = parted(deciding)
    wanted = (deciding, f"{data_set}.{exact_name(metric)}")
    if found := [name for name in wanted if name in metrics]:
        return found[0]
    of_validation = [name for name in metrics if parted(name)[0] == VALIDATION]
    of_the_same = [name for name in metrics if parted(name)[0] == data_set]
    return next(iter([*of_validation, *of_the_same, *metrics]))


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key for natural order.

    >>> sorted(["w10", "w2", "10", "9"], key=natural)
    ['9', '10', 'w2', 'w10']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split("([0-9]+)", name)]
