"""Small trainings on synthetic rows, for the meters they leave."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from distributed import wait

from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.config.xgboost import ModelShape, xgboost_params
from pipeline.efficiency.round_meter import MeterRecord
from pipeline.scaling.baseline import train_once
from pipeline.scaling.synthetic import Synthetic, cuts_of, make_blocks
from pipeline.training.trainer import TrainingResult
from pipeline.training.xgboost.matrix import Partition, build_partition
from pipeline.training.xgboost.spec import RoundsSpec

ROWS = 3_000


def spec_of(data: Synthetic, objective: str, params: Mapping[str, Any], **options: Any) -> RoundsSpec:
    """A training of this data; three quantiles where quantiles are predicted."""
    quantiles = (0.1, 0.5, 0.9) if objective == "reg:quantileerror" else ()
    intercept = (0.0,) * 3 if quantiles else 0.5
    shape = ModelShape(data.names, classes=data.classes, quantiles=quantiles)
    return RoundsSpec(
        run="meter",
        params=xgboost_params(objective, shape, intercept, params, seed=1),
        **{"rounds": 4, "metrics": (), "full_meter": True, "timeout_seconds": 60, **options},
    )


def partition_of(data: Synthetic, objective: str, first: int, stop: int) -> Partition:
    """The rows `first` to `stop`; real numbers for labels where the objective is a regression."""
    blocks = make_blocks(data, first, stop)
    if objective.startswith("reg:"):
        blocks = [
            dataclasses.replace(block, label=block.label + (block.codes[:, 0] * np.float32(0.01))) for block in blocks
        ]
    return build_partition(blocks, cuts_of(data), data.names, threads=1)


def train(
    client: Any, world: int, data: Synthetic, objective: str = "binary:logistic",
    params: Mapping[str, Any] | None = None, **options: Any,
) -> TrainingResult:  # fmt: skip
    """Trains on the first `world` workers, with unequal shares, and leaves nothing on them."""
    workers = sorted(scheduler_info(client)["workers"])[:world]
    edges = [int(edge) for edge in np.linspace(0, 1, world + 1) ** 1.2 * data.rows]
    partitions = [
        client.submit(
            partition_of, data, objective, first, stop, workers=[worker], allow_other_workers=False, pure=False
        )
        for worker, (first, stop) in zip(workers, itertools.pairwise(edges), strict=True)
    ]
    wait(partitions)
    return train_once(client, partitions, workers, spec_of(data, objective, params or {}, **options))


def expected_nbytes(meters: tuple[MeterRecord, ...], rank: int) -> list[int]:
    """Bytes of each round that this rank sends, from the trees that were built."""
    from pipeline.efficiency.traffic import calls_of_round, sent_nbytes

    one = meters[rank]
    return [
        sent_nbytes(calls_of_round(one.growth, trees, one.adaptive), one.workers, rank) for trees in meters[0].trees
    ]
