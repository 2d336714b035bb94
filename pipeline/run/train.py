"""Runs one training end to end: placement, data passes, supervised rounds, evaluation, saving."""

import contextlib
import functools
import os
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client

from pipeline.cluster.deadline import in_time
from pipeline.cluster.memory import PeakMemory
from pipeline.config.job import Job, seconds_of, storable
from pipeline.dashboard.install import attached
from pipeline.data.files import waiting
from pipeline.data.inputs import Inputs
from pipeline.efficiency.summary import summary as of_rounds
from pipeline.errors import CollectiveError, TrainingError, WorkerLostError
from pipeline.events.findings import plain
from pipeline.events.types import Asked, Event, Failed, Listener, Note, Saved, Started, ignore
from pipeline.formatting import error_line
from pipeline.model.artifact import Model
from pipeline.monitoring.alarms.listener import Alarms
from pipeline.monitoring.publish import publishing
from pipeline.planning.memory import WORKER_NBYTES
from pipeline.preprocess.passes import prepare
from pipeline.run.destination import claim_destination, held
from pipeline.run.finish import Finished, default_folder, finish
from pipeline.run.metadata import resolve
from pipeline.run.modules import TASKS
from pipeline.run.resume import Start, take_up
from pipeline.runtime import registry
from pipeline.runtime.context import Walk, let_go, new_run
from pipeline.runtime.membership import Members
from pipeline.runtime.placement import Placement, placement
from pipeline.runtime.recorder import Watching, rounds_of
from pipeline.runtime.rpc import if_there, require_client
from pipeline.runtime.timing import StageClock, steady
from pipeline.training.checkpoint import CheckpointStore, Identity
from pipeline.training.forgetting import forget_run
from pipeline.training.supervisor import Beside, Checkpoints, Supervisor

NO_WORKERS = Placement("cpu", (), oversubscribed=False, dashboard=None, local=False)  # until the workers are known
BUSY = Note(message="the workers are busy with something else, another training perhaps; waiting for them")
FORGET_SECONDS = 5.0  # for workers to drop what a run left
SHOWN = (
    "data.source", "data.target", "data.validation", "training.objective", "training.rounds", "training.early_stopping",
    "training.metrics", "training.params", "training.row_sample", "training.seed", "cluster.scheduler", "output.model",
)  # fmt: skip
SHOWN_CHARACTERS = 200  # of one setting


@dataclass(frozen=True, repr=False)
class TrainResult:
    """A trained model and the summary of its run."""

    model: Model
    summary: dict[str, Any]  # what `pipeline train --json` prints

    def __repr__(self) -> str:
        metrics = self.summary.get("metrics", {})
        use = "validation" if metrics.get("validation") else "train"
        numbers = [(name, value) for name, value in (metrics.get(use) or {}).items() if isinstance(value, float)]
        said = ", ".join(f"{name} {value:.4g}" for name, value in numbers[:3])
        return f"<TrainResult {self.model!r}; {use}: {said}; more in .summary>"


def train(
    client: Client,
    job: Job,
    *,
    source: object | None = None,
    names: Sequence[str] | None = None,
    listen: Listener = ignore,
    allow_code: bool = False,
    clock: StageClock | None = None,
    resume: str | os.PathLike[str] | None = None,
    inputs: Inputs | None = None,
) -> TrainResult:
    """Trains a model as the job says and writes its folder.

    `source` instead of the job's files: other file names, rows in memory (an Arrow table, record batch or stream, a
    pandas or Polars frame, a NumPy array, a mapping of names to values, a list of rows), a Dask DataFrame or Array.
    `names`: the columns of an array.  A frame's named index is a column; an unnamed index is left out.  The model of a
    Dask collection does not depend on its partitions.  `listen` receives the run's events.  `clock` holds the seconds
    spent before (import, connect).  `inputs`: what `metadata.resolve` returned for this job and source, if it was
    called before; otherwise it is called here, before the first task.  `resume`: the output folder of an interrupted
    run, which continues from its last checkpoint.  UserError for what the user can fix, TrainingError for what fails on
    a worker; then no model folder is written, and the checkpoints are kept.
    """
    require_client(client)
    clock = clock or StageClock(begin=steady())
    run = new_run()
    try:
        with clock.stage("metadata"), waiting.notes_to(listen):
            model = resume or job.output.model or default_folder(run)
            folder = claim_destination(model, resume=resume is not None, overwrite=job.output.overwrite)
            inputs = inputs or resolve(job, source, names=names, allow_code=allow_code)
    except BaseException as error:
        listen(Started(verb="train", run=run))
        listen(Failed(message=str(error) or type(error).__name__))
        raise
    saved: list[TrainResult] = []
    with (
        _cleanup_errors_as_notes(saved, listen),
        PeakMemory() as memory,
        Members(client, job.cluster.hang_seconds, patience_seconds=seconds_of(job.cluster.patience)) as members,
    ):
        walk = Walk(client, members, inputs.job, NO_WORKERS, listen, clock, run)
        members.note = walk.note
        with clock.stage("connect"), members.telling_loss():
            walk.placement = _placement(client, job, members, listen)
        _run(walk, Besides(inputs, folder, resume is not None), memory, saved)
    return saved[0]


def _run(walk: Walk, asked: "Besides", memory: PeakMemory, saved: list[TrainResult]) -> None:
    """Publishes the run and trains; appends the result to `saved` as soon as the model is saved."""
    client, members = walk.client, walk.members
    with contextlib.ExitStack() as stack:
        alarms = Alarms(walk.job.alarm, walk.note)
        # Publish first, so that an exception in the caller's listener cannot suppress an event.
        walk.listen = _all(stack.enter_context(publishing(client, walk.run)), walk.listen, alarms)
        members.lost, members.ended = walk.worker_lost, alarms.check
        stack.enter_context(alarms)
        walk.listen(Started(verb="train", run=walk.run))
        try:
            with members.telling_loss():
                if walk.job.cluster.dashboard:
                    stack.enter_context(attached(client, walk.note))
                members.call(functools.partial(_forget_dead, client, walk.run))
                watching = Watching(client, walk.run, walk.placement.workers, walk.clock)
                members.lost = functools.partial(_lost, walk, watching)
                with walk.hearing_spans(), held(asked.folder):
                    _train(walk, asked, memory, watching, saved)
        except BaseException as error:
            let_go(error)
            if not saved:
                walk.listen(Failed(message=str(error) or type(error).__name__))
            raise
        finally:
            _forget(client, walk.run)


@contextlib.contextmanager
def _cleanup_errors_as_notes(saved: Sequence[TrainResult], listen: Listener) -> Iterator[None]:
    """Emits a note, not an error, if cleaning up fails after the model is saved (lost scheduler, read-only folder)."""
    try:
        yield
    except Exception as error:
        if not saved:
            raise
        message = f"the model is saved; cleaning up after the run failed: {error_line(error)}"
        saved[0].summary["notes"].append(message)
        listen(Note(message=message))


def _lost(walk: Walk, watching: Watching, address: str, reason: str) -> None:
    """Ends the worker's account now, before the loss is handled, and emits WorkerLost."""
    watching.lost(address)
    walk.worker_lost(address, reason)


def _all(*listeners: Listener) -> Listener:
    """Returns a listener that passes each event to all of these."""

    def listen(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return listen


@dataclass(frozen=True)
class Besides:
    """What one call asks for in addition to the job."""

    inputs: Inputs
    folder: Path  # of the model
    resume: bool  # continue from the checkpoints of that folder


def _placement(client: Client, job: Job, members: Members, listen: Listener) -> Placement:
    """Returns the workers; probes all of them again if one is lost meanwhile."""
    busy = functools.partial(listen, BUSY)
    for _ in range(job.training.max_restarts):
        with contextlib.suppress(WorkerLostError, CollectiveError):
            return placement(client, job.cluster, members, busy, TASKS)
    try:
        return placement(client, job.cluster, members, busy, TASKS)
    except WorkerLostError as lost:
        short = members.out_of_memory(WORKER_NBYTES)
        raise TrainingError(short or f"worker {members.names[lost.worker]} lost at start: {lost.reason}") from None


def _forget_dead(client: Client, run: str) -> None:
    """Drops what runs left on the workers if their clients are gone: a killed client could not do so itself."""
    dead = registry.enter(client, run, forget_run)
    for one in dead:
        client.run(forget_run, one, on_error="ignore")
    if dead:
        registry.leave(client, *dead)


def _forget(client: Client, run: str) -> None:
    """Has the workers of a running cluster, which outlive the run, drop what the run left there.

    A worker that does not answer must not delay the run's result or error.
    """

    def ask() -> None:
        client.run(forget_run, run, on_error="ignore")
        registry.leave(client, run)

    in_time(FORGET_SECONDS, "forget", functools.partial(if_there, client, ask))


def _settings(job: Job) -> dict[str, str]:
    """Returns the fields of a job by which a person tells one run from another."""
    fields = storable(job)
    values = {
        name: fields[section][field] for name, (section, _, field) in ((one, one.partition(".")) for one in SHOWN)
    }
    return {name: textwrap.shorten(_said(value), SHOWN_CHARACTERS) for name, value in values.items() if _said(value)}


def _said(value: Any) -> str:
    """Formats a field as text; leaves out what is not set.

    >>> _said({"share": None, "column": "month", "values": [11, 12]})
    'column = month, values = 11, 12'
    """
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_said(one)}" for name, one in value.items() if _said(one))
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    return "" if value is None else str(value)


def _train(walk: Walk, asked: Besides, memory: PeakMemory, watching: Watching, results: list[TrainResult]) -> None:
    """Trains, saves and appends the result to `results` as soon as the model is saved, even if something fails later."""
    inputs, clock = asked.inputs, walk.clock
    with clock.stage("metadata"):
        walk.listen(Asked(settings=_settings(inputs.job)))
        walk.note(*walk.placement.notes, *inputs.notes)
        data = tuple(source.fingerprint for source in inputs.sources)
        files = tuple(source.digests for source in inputs.sources)
        identity = Identity.of(inputs.job.model_dump(mode="json"), data, walk.placement.device, files)
        store = CheckpointStore(asked.folder)
        start = take_up(walk, store, identity) if asked.resume else Start()
        if not asked.resume:
            store.remove()  # checkpoints of an earlier run that this one may overwrite
    prepared = prepare(walk, inputs)
    identity = identity.with_features(prepared.fitted.recipe.to_json(), prepared.fitted.cuts.points)
    checkpoints = Checkpoints(walk, store, identity, start.checked(identity))
    beside = Beside(stands=memory.sample, joined=watching.start_again)
    outcome = Supervisor(walk, prepared, checkpoints, beside).run()
    trained = outcome.trained
    walk.members.look()  # waits while the scheduler is silent: the workers' readings pass through it
    ended = watching.account(rounds_of(trained.meters, outcome.workers))
    efficiency = of_rounds(trained.meters, outcome.workers, features=len(prepared.fitted.recipe.features))
    done = Finished(prepared, trained.result, outcome.evaluation, asked.folder, memory, ended, efficiency)
    saved, summary = finish(walk, done)
    results.append(TrainResult(saved, summary))
    if (reason := store.remove()) is not None:
        walk.note(f"the model is saved; its checkpoints in {store.folder} cannot be removed: {reason}")
        summary["notes"] = [plain(note) for note in walk.notes]
    walk.listen(Saved(path=str(saved.path), sha256=saved.sha256))
