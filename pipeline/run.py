"""The walk from a job to a model folder: every step in its order, each done by the room it belongs to."""

import contextlib
import dataclasses
import threading
import time
from dataclasses import dataclass
from typing import Any

from distributed import Client

from pipeline.cluster.memory import PeakMemory
from pipeline.cluster.placement import placement
from pipeline.data.inputs import open_inputs
from pipeline.efficiency.summary import summary as of_rounds
from pipeline.efficiency.watch import Watching, rounds_of
from pipeline.events import Failed, Listener, Saved, Started, ignore
from pipeline.finish import Finished, default_folder, finish
from pipeline.job import Job
from pipeline.model.artifact import Model, claim_folder
from pipeline.preprocess.fit import forget
from pipeline.preprocess.passes import make_blocks, prepare
from pipeline.stages import StageClock
from pipeline.training import objective
from pipeline.training.boost import boost, build_matrices, evaluate
from pipeline.walk import Walk, let_go

FORGET_SECONDS = 5.0  # that workers get to drop what a run left


@dataclass(frozen=True)
class TrainResult:
    """A trained model, and what there is to say about how it came about."""

    model: Model
    summary: dict[str, Any]  # what `pipeline train --json` prints


def train(
    client: Client,
    job: Job,
    *,
    source: object | None = None,
    listen: Listener = ignore,
    allow_code: bool = False,
    clock: StageClock | None = None,
) -> TrainResult:
    """Trains a model as the job says and writes its folder.

    `source`: an Arrow table or a Dask DataFrame instead of the job's files.  `listen` hears the run's events.
    `clock` holds the seconds spent before (import, connect).  UserError for what the user can mend, TrainingError
    for what fails on a worker; no model folder is written then.
    """
    clock = clock or StageClock(begin=time.time())
    with PeakMemory() as memory:
        with clock.stage("connect"):
            walk = Walk(client, job, placement(client, job.cluster), listen, clock)
        listen(Started(verb="train", run=walk.run))
        watching = Watching(client, walk.run, walk.placement.workers, clock)
        try:
            with walk.hearing_spans():
                return _train(walk, source, allow_code, memory, watching)
        except BaseException as error:
            let_go(error)
            listen(Failed(message=str(error) or type(error).__name__))
            raise
        finally:
            _forget(client, walk.run, watching)


def _forget(client: Client, run: str, watching: Watching) -> None:
    """Workers of a running cluster outlive the run: they drop what it left there.

    A worker that does not answer must not hold back the run's result or error.
    """

    def ask() -> None:
        with contextlib.suppress(OSError):  # the scheduler is gone, and its workers with it
            client.run(forget, run, on_error="ignore")
            watching.stop()

    asking = threading.Thread(target=ask, name="forget", daemon=True)
    asking.start()
    asking.join(FORGET_SECONDS)


def _train(walk: Walk, source: object | None, allow_code: bool, memory: PeakMemory, watching: Watching) -> TrainResult:
    job, clock = walk.job, walk.clock
    with clock.stage("metadata"):
        objective.check_params(job.training.params, job.training.metrics, job.training.objective)
        folder = claim_folder(job.output.model or default_folder(walk.run), overwrite=job.output.overwrite)
        inputs = open_inputs(job, source, allow_code=allow_code)
        walk.job = inputs.job
        walk.note(*walk.placement.notes, *inputs.notes)
    prepared = prepare(walk, inputs)
    with clock.stage("blocks"):
        blocks = make_blocks(walk, prepared)
    with clock.stage("matrix"):
        partitions = build_matrices(walk, prepared, blocks)
        memory.sample()  # blocks and matrices together: most runs' peak
        del blocks  # the workers drop them: from here on only the quantised matrices live
        prepared = dataclasses.replace(prepared, units=())  # likewise rows that came from memory
    with clock.stage("rounds"):
        trained = boost(walk, prepared, partitions)
        ranks = walk.names(partitions.workers)
        del partitions
    with clock.stage("evaluate"):
        evaluation = evaluate(walk, prepared, trained)
    ended = watching.account(rounds_of(trained.meters, ranks))
    efficiency = of_rounds(trained.meters, ranks, features=len(prepared.fitted.recipe.features))
    model, summary = finish(walk, Finished(prepared, trained.result, evaluation, folder, memory, ended, efficiency))
    walk.listen(Saved(path=str(model.path), sha256=model.sha256))
    return TrainResult(model, summary)
