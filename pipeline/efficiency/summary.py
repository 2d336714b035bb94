"""Summarises the efficiency of the rounds for metrics.json, from the meters that every training carries."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from pipeline.efficiency.definitions import figures
from pipeline.efficiency.records import WorkerSample
from pipeline.efficiency.round_meter import MeterRecord
from pipeline.efficiency.split import worker_samples

TINY = 1e-9  # seconds; keeps a worker without rows from an endless capability


def summary(meters: Sequence[MeterRecord], names: Sequence[str], features: int) -> dict[str, Any]:
    """Seconds per round of every worker and the figures of all of them, over all rounds; `names` by rank.

    Capabilities are those of this run: row x feature x level updates per useful second.  "figures" is None, with
    "missing" saying why, where useful time was not separated from the rest.
    """
    if not meters:
        return {}
    ranked = sorted(meters, key=lambda record: record.rank)
    samples = worker_samples(ranked, names)
    seconds = max(sample.seconds for sample in samples)
    made = None
    if all(sample.closure is not None for sample in samples) and seconds > 0:
        useful = [sample.split.useful for sample in samples]
        capability = [_updates(record, features) / max(u, TINY) for record, u in zip(ranked, useful, strict=True)]
        made = dataclasses.asdict(figures(seconds, useful, [sample.split.transfer for sample in samples], capability))
    return {
        "unit": "seconds per round",
        "rounds": ranked[0].rounds,
        "seconds": seconds,
        "method": samples[0].method,
        "missing": sorted({reason for sample in samples for reason in sample.missing}),
        "workers": [_worker(record, sample) for record, sample in zip(ranked, samples, strict=True)],
        "figures": made,
        "capabilities": "measured in this run",
    }


def _updates(record: MeterRecord, features: int) -> float:
    """Histogram updates of a round: every row once a level, feature and tree.  At least one, for a worker without rows."""
    return float(max(1, record.rows) * features * max(1, record.growth.depth) * record.trees_per_round)


def _worker(record: MeterRecord, sample: WorkerSample) -> dict[str, Any]:
    return {
        "worker": sample.worker,
        "rows": record.rows,
        "seconds": sample.seconds,
        **dataclasses.asdict(sample.split),
        "closure": sample.closure,
        "bytes_sent": sample.bytes_sent,  # by growing all trees
        "meter_share": sample.meter_share,
        "replay_seconds": record.replay_seconds,
    }
