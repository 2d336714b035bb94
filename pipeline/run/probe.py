"""Measures a part of a job before it is planned: one or two fragments through all stages, with the job's own trees."""

import dataclasses
import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from distributed import Client

from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.config.job import Job, Validation
from pipeline.data.fragments import Fragment
from pipeline.data.opened_sources import HELD_OUT_SHARE, Inputs
from pipeline.errors import DataError, TrainingError
from pipeline.planning.audit import ratios_of
from pipeline.planning.forecast import Correction, MeasuredTrees, forecast
from pipeline.planning.job_size import SizeFacts
from pipeline.planning.stage_memory import MemoryFacts
from pipeline.planning.work import Layout
from pipeline.run.audit import ACCOUNT_STAGES, RunFacts, facts_of
from pipeline.run.train import train
from pipeline.runtime import capability

FRAGMENTS = 2
ROUNDS = (4, 32)  # at least, at most
PASSES = tuple(stage for stage in ACCOUNT_STAGES if stage != "rounds")


@dataclass(frozen=True)
class Probe:
    """What a probe has shown."""

    seconds: float
    cpu: Mapping[str, float]  # stage -> measured over predicted CPU seconds
    trees: MeasuredTrees
    busy: float  # how much longer threads take now than on a quiet machine
    facts: SizeFacts

    def applied_to(self, before: Correction) -> Correction:
        """The correction of earlier runs, with what the probe knows better."""
        return dataclasses.replace(
            before,
            cpu={**before.cpu, **self.cpu},
            trees=self.trees,
            facts=self.facts,
        )


def probe(client: Client, inputs: Inputs, seconds: float) -> Probe:
    """Trains a few rounds on one or two fragments, for about `seconds` of CPU time.

    DataError where there is no fragment to read.  Other errors are those that the whole run would have: the probe meets
    them first.
    """
    begin = time.monotonic()
    workers = scheduler_info(client)["workers"]
    threads = min(worker["nthreads"] for worker in workers.values())
    address = next(iter(workers))
    free = client.submit(capability.probe, threads, workers=[address], pure=False).result()
    chosen = _fragments(inputs)
    sources = [
        dataclasses.replace(source, fragments=fragments)
        for source, fragments in zip(inputs.sources, chosen, strict=True)
    ]
    rounds = _rounds(inputs.with_sources(sources), Layout(1, threads), seconds)
    with tempfile.TemporaryDirectory(prefix="pipeline-probe-") as folder:
        part = dataclasses.replace(inputs.with_sources(sources), job=_job(inputs.job, rounds, folder))
        audit = train(client, part.job, inputs=part).summary.get("audit")
    if audit is None:
        raise TrainingError("the probe could not be measured: use --probe 0 for a plan without one")
    found = RunFacts.from_dict(audit)
    facts = facts_of(inputs.with_sources(sources).size(), found.size, missing=found.memory.missing)
    if not _by_share(inputs.job.data.validation):  # the probe holds out others
        facts = dataclasses.replace(facts, validation_share=None)
    ratios = ratios_of(found.size, found.layout, found.memory, found.measured).cpu
    return Probe(
        seconds=time.monotonic() - begin,
        cpu={stage: math.exp(ratios[stage]) for stage in ACCOUNT_STAGES if stage in ratios},
        trees=MeasuredTrees.of(found.size, found.measured.leaves),
        busy=1 / max(0.05, free.available),
        facts=facts,
    )


def _by_share(validation: Validation | None) -> bool:
    return validation is not None and validation.share is not None and validation.source is None


def _fragments(inputs: Inputs) -> list[tuple[Fragment, ...]]:
    """The first and the middle fragment of each source."""
    chosen = []
    for source in inputs.sources:
        fragments = [one for one in source.fragments if one.rows != 0 and not any(piece.bad for piece in one.pieces)]
        if not fragments:
            raise DataError(
                "there is no fragment to probe: the source has no rows (use --probe 0 for a plan without one)"
            )
        places = dict.fromkeys([0, len(fragments) // 2])
        chosen.append(tuple(fragments[place] for place in list(places)[:FRAGMENTS]))
    return chosen


def _rounds(part: Inputs, layout: Layout, seconds: float) -> int:
    """As many rounds as are expected to fit, once the passes are paid for."""
    size = part.size()
    one = forecast(dataclasses.replace(size, rounds=1), layout, MemoryFacts(0, missing=True))
    left = seconds - sum(one.cpu[stage] for stage in PASSES)
    least, most = ROUNDS
    return min(most, max(least, int(left / max(1e-6, one.cpu["rounds"]))), size.rounds)


def _job(job: Job, rounds: int, folder: str) -> Job:
    """The job of the probe: a few rounds, and rows held out by share, since a fragment may hold only one kind of rows."""
    validation = job.data.validation
    if validation is not None and validation.source is None:
        validation = Validation(share=validation.share or HELD_OUT_SHARE)
    training = job.training.model_copy(update={"rounds": rounds, "early_stopping": 0})
    output = job.output.model_copy(update={"model": str(Path(folder) / "model"), "report": False, "audit": False})
    cluster = job.cluster.model_copy(update={"dashboard": False, "workers": 1})
    data = job.data.model_copy(update={"validation": validation})
    return job.model_copy(
        update={"data": data, "training": training, "output": output, "cluster": cluster, "alarm": []}
    )
