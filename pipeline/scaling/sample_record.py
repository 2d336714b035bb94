"""Builds the record of a training: its configuration, and one sample of it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.xgboost import KINDS
from pipeline.efficiency.definitions import figures
from pipeline.efficiency.machine import Machine
from pipeline.efficiency.records import Configuration, Mode, ScalingSample
from pipeline.efficiency.round_meter import MeterRecord
from pipeline.efficiency.split import worker_samples
from pipeline.scaling.plan import Plan
from pipeline.scaling.workloads import ScalingLayout

DEPTH = 6  # XGBoost's default


def configuration_of(layout: ScalingLayout, plan: Plan, mode: Mode, oversubscribed: bool) -> Configuration:
    """The fields of a layout that the model needs."""
    spec, params = layout.spec, layout.spec.params
    lossguide = params.get("grow_policy") == "lossguide"
    return Configuration(
        mode=mode,
        workers=len(layout.rows),
        threads=spec.threads,
        rows=layout.rows,
        features=layout.features,
        bins=layout.bins,
        depth=int(params.get("max_depth", DEPTH)),
        growth="lossguide" if lossguide else "depthwise",
        max_leaves=int(params.get("max_leaves", 0)),
        trees_per_round=trees_per_round(params),
        column_share=column_share(params),
        row_share=spec.row_sample,
        objective=str(params["objective"]),
        rounds=plan.rounds,
        warmup=plan.warmup,
        device="cuda" if spec.device == "cuda" else "cpu",
        oversubscribed=oversubscribed,
    )


def trees_per_round(params: Mapping[str, Any]) -> int:
    """A tree for each class or quantile, times the trees of a forest; one for all where leaves are vectors.

    >>> trees_per_round({"objective": "multi:softprob", "num_class": 5, "num_parallel_tree": 2})
    10
    """
    outputs = 1
    if params.get("multi_strategy") != "multi_output_tree":
        if KINDS[params["objective"]] == "multiclass":
            outputs = int(params["num_class"])
        elif params["objective"] == "reg:quantileerror":
            outputs = len(params["quantile_alpha"])
    return outputs * int(params.get("num_parallel_tree", 1))


def column_share(params: Mapping[str, Any]) -> float:
    """The share of all features that a node may split on."""
    share = 1.0
    for name in ("colsample_bytree", "colsample_bylevel", "colsample_bynode"):
        share *= float(params.get(name, 1))
    return share


def sample_of(
    meters: Sequence[MeterRecord], names: Sequence[str], configuration: Configuration, machine: Machine | None
) -> ScalingSample:
    """One repetition, without its start time and its number.

    `machine`: with the capabilities of these workers, by rank; without one they count as equal.
    """
    warmup = configuration.warmup
    workers = worker_samples(meters, names, first=warmup)
    seconds = max(worker.seconds for worker in workers)
    capability = machine.capabilities if machine else (1.0,) * len(workers)
    splits = [worker.split for worker in workers]
    first = next(meter for meter in meters if meter.rank == 0)
    return ScalingSample(
        repetition=0,
        time="",
        seconds=seconds,
        workers=workers,
        figures=figures(seconds, [s.useful for s in splits], [s.transfer for s in splits], capability),
        round_seconds=tuple(float(value) for value in (first.wall + first.between)[warmup:]),
    )


def per_round(seconds: Sequence[float], warmup: int) -> float:
    """The mean of the timed rounds."""
    timed = seconds[warmup:]
    return sum(timed) / len(timed)


def of_ranks(machine: Machine, places: Sequence[int]) -> Machine:
    """The machine with the capability of each rank, that of the worker calibrated at this place."""
    known = machine.capabilities
    return dataclasses.replace(machine, capabilities=tuple(known[min(place, len(known) - 1)] for place in places))
