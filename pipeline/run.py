"""The walk from a job to a model folder: every step in its order, each done by the room it belongs to."""

import contextlib
import os
import threading
from dataclasses import dataclass
from typing import Any

from distributed import Client

from pipeline.cluster.members import Members
from pipeline.cluster.memory import PeakMemory
from pipeline.cluster.placement import Placement, placement
from pipeline.data.inputs import open_inputs
from pipeline.efficiency.summary import summary as of_rounds
from pipeline.efficiency.watch import Watching, rounds_of
from pipeline.errors import WorkerLostError
from pipeline.events import Failed, Listener, Saved, Started, ignore
from pipeline.finish import Finished, default_folder, finish
from pipeline.job import Job
from pipeline.model.artifact import Model, claim_folder
from pipeline.preprocess.fit import forget
from pipeline.preprocess.passes import prepare
from pipeline.stages import StageClock, steady
from pipeline.training import objective
from pipeline.training.checkpoint import CheckpointStore, Identity
from pipeline.training.resume import start_anew, take_up
from pipeline.training.supervisor import Beside, Checkpoints, Supervisor
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
    resume: str | os.PathLike[str] | None = None,
) -> TrainResult:
    """Trains a model as the job says and writes its folder.

    `source`: an Arrow table or a Dask DataFrame instead of the job's files.  `listen` hears the run's events.
    `clock` holds the seconds spent before (import, connect).  `resume`: the model folder that was to be of a run that was
    interrupted; goes on from its last checkpoint.  UserError for what the user can mend, TrainingError for what fails on
    a worker; no model folder is written then, and the checkpoints stand.
    """
    clock = clock or StageClock(begin=steady())
    with PeakMemory() as memory, Members(client, job.cluster.hang_seconds) as members:
        with clock.stage("connect"):
            walk = Walk(client, members, job, _placement(client, job, members), listen, clock)
        members.lost = walk.worker_lost
        listen(Started(verb="train", run=walk.run))
        watching = Watching(client, walk.run, walk.placement.workers, clock)
        try:
            with walk.hearing_spans():
                return _train(walk, Asked(source, allow_code, resume), memory, watching)
        except BaseException as error:
            let_go(error)
            listen(Failed(message=str(error) or type(error).__name__))
            raise
        finally:
            _forget(client, walk.run, watching)


@dataclass(frozen=True)
class Asked:
    """What is asked for besides the job."""

    source: object | None
    allow_code: bool
    resume: str | os.PathLike[str] | None


def _placement(client: Client, job: Job, members: Members) -> Placement:
    """The workers; one that is lost while they are looked at is left out or waited for."""
    for _ in range(job.training.max_restarts):
        try:
            return placement(client, job.cluster, members)
        except WorkerLostError:
            wanted = job.cluster.workers if isinstance(job.cluster.workers, int) else 1
            with contextlib.suppress(TimeoutError):
                client.wait_for_workers(wanted, timeout=job.cluster.wait_seconds)
    return placement(client, job.cluster, members)


def _forget(client: Client, run: str, watching: Watching) -> None:
    """Workers of a running cluster outlive the run: they drop what it left there.

    A worker that does not answer must not hold back the run's result or error.
    """

    def ask() -> None:
        with contextlib.suppress(OSError, RuntimeError):  # the scheduler is gone, or the client closed meanwhile
            client.run(forget, run, on_error="ignore")
            watching.stop()

    asking = threading.Thread(target=ask, name="forget", daemon=True)
    asking.start()
    asking.join(FORGET_SECONDS)


def _train(walk: Walk, asked: Asked, memory: PeakMemory, watching: Watching) -> TrainResult:
    job, clock = walk.job, walk.clock
    with clock.stage("metadata"):
        objective.check_params(job.training.params, job.training.metrics, job.training.objective)
        model = asked.resume or job.output.model or default_folder(walk.run)
        folder = claim_folder(model, overwrite=job.output.overwrite)
        inputs = open_inputs(job, asked.source, allow_code=asked.allow_code)
        walk.job = inputs.job
        walk.note(*walk.placement.notes, *inputs.notes)
        data = tuple(source.fingerprint for source in inputs.sources)
        identity = Identity.of(inputs.job.model_dump(mode="json"), data, walk.placement.device)
        store = CheckpointStore(folder)
        start = take_up(walk, store, identity) if asked.resume else start_anew(walk, store)
    prepared = prepare(walk, inputs)
    identity = identity.with_features(prepared.fitted.recipe.to_json(), prepared.fitted.cuts.points)
    checkpoints = Checkpoints(walk, store, identity, start.checked(identity))
    beside = Beside(stands=memory.sample, joined=watching.add)
    outcome = Supervisor(walk, prepared, checkpoints, beside).run()
    trained = outcome.trained
    ended = watching.account(rounds_of(trained.meters, outcome.workers))
    efficiency = of_rounds(trained.meters, outcome.workers, features=len(prepared.fitted.recipe.features))
    done = Finished(prepared, trained.result, outcome.evaluation, folder, memory, ended, efficiency)
    saved, summary = finish(walk, done)
    store.remove()
    walk.listen(Saved(path=str(saved.path), sha256=saved.sha256))
    return TrainResult(saved, summary)
