"""Runs one training end to end: placement, data passes, supervised rounds, evaluation, saving."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client

from pipeline.cluster.memory import PeakMemory
from pipeline.cluster.process_time import tree_cpu_seconds
from pipeline.config.job import Job, require_job
from pipeline.config.quantities import parse_duration
from pipeline.dashboard.install import attached
from pipeline.data.files import waiting
from pipeline.data.opened_sources import Inputs
from pipeline.efficiency.summary import summary as of_rounds
from pipeline.errors import CollectiveError, PipelineError, TrainingError, WorkerLostError
from pipeline.events.findings import plain
from pipeline.events.types import EventHandler, Failed, JobResolved, Note, RoundDone, Saved, Started, discard
from pipeline.formatting import error_line
from pipeline.model.artifact import AUDIT, Model, add_documents
from pipeline.model.manifest import dump
from pipeline.monitoring.alarms.listener import Alarms
from pipeline.monitoring.publish import publishing
from pipeline.planning.memory import WORKER_NBYTES
from pipeline.planning.storage_plan import StoragePlan
from pipeline.preprocess.prepare import PreparedData, for_params, prepare
from pipeline.run.audit import Audit
from pipeline.run.audit_history import add_to_history
from pipeline.run.finish import RunResult, default_folder, save_model, save_report
from pipeline.run.metadata import resolve
from pipeline.run.modules import TASKS
from pipeline.run.output_lock import lock_output_dir, prepare_output_dir
from pipeline.run.resource_plan import plan_of_run
from pipeline.run.resume import ResumePoint, identity_of, load_resume_point
from pipeline.run.settings import shown_settings
from pipeline.runtime.context import RunContext, clear_exception_frames, new_run
from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.placement import Placement, find_workers, measured
from pipeline.runtime.recorder import TimeAccountant, rounds_of
from pipeline.runtime.rpc import require_client
from pipeline.runtime.sessions import close_run, open_run
from pipeline.runtime.timing import StageTimer, monotonic_epoch
from pipeline.training.checkpoint import CheckpointStore
from pipeline.training.supervisor import Checkpoints, Supervisor, SupervisorHooks
from pipeline.training.trainers import trainer_named
from pipeline.training.workset import WorkSet

NO_WORKERS = Placement("cpu", (), oversubscribed=False, dashboard=None, local=False)  # until the workers are known
BUSY = Note(message="the workers are busy, perhaps with another training; waiting for them")


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
    listen: EventHandler = discard,
    allow_code: bool = False,
    clock: StageTimer | None = None,
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
    require_job(job)
    clock = clock or StageTimer(begin=monotonic_epoch(), cpu_begin=tree_cpu_seconds())
    run = new_run()
    with refusals_as_failures(listen, run), clock.stage("metadata"), waiting.notes_to(listen):
        model = resume or job.output.model or default_folder(run)
        folder = prepare_output_dir(model, resume=resume is not None, overwrite=job.output.overwrite)
        inputs = inputs or resolve(job, source, names=names, allow_code=allow_code)
    saved: list[TrainResult] = []
    with (
        cleanup_errors_as_notes(saved, listen),
        PeakMemory() as memory,
        WorkerMembership(
            client, job.cluster.hang_seconds, patience_seconds=parse_duration(job.cluster.patience)
        ) as membership,
    ):
        context = RunContext(client, membership, inputs.job, NO_WORKERS, [listen], clock, run)
        membership.note = context.emit_note
        with clock.stage("connect"), refusals_as_failures(listen, run), membership.translate_connection_errors():
            place(context, inputs)
        run_training(context, TrainOptions(inputs, folder, resume is not None), memory, saved)
    return saved[0]


def run_training(context: RunContext, options: "TrainOptions", memory: PeakMemory, saved: list[TrainResult]) -> None:
    """Publishes the run and trains; appends the result to `saved` as soon as the model is saved."""
    client, membership = context.client, context.membership
    with contextlib.ExitStack() as stack:
        alarms = Alarms(context.job.alarm, context.emit_note)
        context.publish = stack.enter_context(publishing(client, context.run))
        context.handlers = [*context.handlers, alarms]
        membership.lost, membership.ended = context.worker_lost, alarms.check
        stack.enter_context(alarms)
        context.emit(Started(verb="train", run=context.run))
        try:
            with membership.translate_connection_errors():
                if context.job.cluster.dashboard:
                    stack.enter_context(attached(client, context.emit_note))
                membership.call(functools.partial(open_run, client, context.run))
                accountant = TimeAccountant(client, context.run, context.placement.workers, context.clock)
                membership.lost = functools.partial(_lost, context, accountant)
                with context.collect_spans(), lock_output_dir(options.folder):
                    _train(context, options, memory, accountant, saved)
        except BaseException as error:
            clear_exception_frames(error)
            if not saved:
                context.emit(Failed.of(error))
            raise
        finally:
            close_run(client, context.run)


@contextlib.contextmanager
def refusals_as_failures(on_event: EventHandler, run: str) -> Iterator[None]:
    """Emits Started and Failed for a run that is refused before it begins."""
    try:
        yield
    except BaseException as error:
        on_event(Started(verb="train", run=run))
        on_event(Failed.of(error))
        raise


@contextlib.contextmanager
def cleanup_errors_as_notes(saved: Sequence[TrainResult], on_event: EventHandler) -> Iterator[None]:
    """Emits a note, not an error, if cleaning up fails after the model is saved (lost scheduler, read-only folder)."""
    try:
        yield
    except Exception as error:
        if not saved:
            raise
        message = f"the model is saved; cleaning up after the run failed: {error_line(error)}"
        saved[0].summary["notes"].append(message)
        on_event(Note(message=message))


def _lost(context: RunContext, accountant: TimeAccountant, address: str, reason: str) -> None:
    """Ends the worker's account now, before the loss is handled, and emits WorkerLost."""
    accountant.lost(address)
    context.worker_lost(address, reason)


@dataclass(frozen=True)
class TrainOptions:
    """What one call asks for in addition to the job."""

    inputs: Inputs
    folder: Path  # of the model
    resume: bool = False  # continue from the checkpoints of that folder
    shared: "SharedRows | None" = None  # rows that are prepared already
    ends_after: Callable[[RoundDone], bool] | None = None  # of SupervisorHooks


@dataclass(frozen=True)
class SharedRows:
    """Rows that are read and encoded for several trainings."""

    prepared: PreparedData
    work_set: WorkSet


def place(context: RunContext, inputs: Inputs) -> None:
    """Finds the workers and plans the run on them; then measures the workers, all again if one is lost meanwhile.

    ClusterError, before the first task, if the run does not fit on them.
    """
    membership = context.membership
    for _ in range(context.job.training.max_restarts):
        with contextlib.suppress(WorkerLostError, CollectiveError):
            return _place(context, inputs)
    try:
        return _place(context, inputs)
    except WorkerLostError as lost:
        short = membership.out_of_memory(WORKER_NBYTES)
        raise TrainingError(short or f"worker {membership.names[lost.worker]} lost at start: {lost.reason}") from None


def _place(context: RunContext, inputs: Inputs) -> None:
    found = find_workers(context.client, context.job.cluster, context.membership, TASKS)
    storage = StoragePlan.of(inputs.survey(), found.resources)
    storage.validate()
    _plan_resources(context, inputs, found, storage)
    context.placement = measured(found, context.membership, functools.partial(context.emit, BUSY))


def _plan_resources(context: RunContext, inputs: Inputs, found: Placement, storage: StoragePlan) -> None:
    """Plans the run; ClusterError where a worker would surely be ended.  A job that cannot be planned is trained."""
    context.resource_plan = None
    try:
        context.resource_plan = plan_of_run(context, inputs, found.resources)
    except PipelineError:
        raise
    except Exception as error:
        context.emit_note(f"the run cannot be planned: {error_line(error)}")
    if (plan := context.resource_plan) is not None:
        plan.validate()
        one = plan.layouts[0]
        if one.tight is not None:
            context.emit_note(one.tight)
        elif one.storage.worker.matrix == "disk" and storage.worker.matrix == "memory":
            context.emit_note("the matrix is kept on disk: in memory, a worker may be ended (training.matrix)")


def _train(
    context: RunContext,
    options: TrainOptions,
    memory: PeakMemory,
    accountant: TimeAccountant,
    results: list[TrainResult],
) -> None:
    """Trains, saves and appends the result to `results` as soon as the model is saved, even if something fails later.

    The report is drawn after that, and then the result replaced.
    """
    inputs, clock = options.inputs, context.clock
    with clock.stage("metadata"):
        context.emit(JobResolved(settings=shown_settings(inputs.job)))
        context.emit_note(*context.placement.notes, *inputs.notes)
        trainer = trainer_named()
        identity = identity_of(context, inputs, trainer)
        store = CheckpointStore(options.folder)
        start = load_resume_point(context, store, identity) if options.resume else ResumePoint()
        if not options.resume:
            store.remove()  # checkpoints of an earlier run that this one may overwrite
    if options.shared is None:
        prepared, work_set = prepare(context, inputs), None
    else:
        prepared, work_set = for_params(context, options.shared.prepared), options.shared.work_set
        work_set.adopt(context, prepared)
    fitted = prepared.fitted
    params = prepared.plan.survey.params
    identity = identity.with_features(prepared.target.objective, fitted.recipe.to_json(), fitted.cuts.points, params)
    checkpoints = Checkpoints(context, store, identity, start.checked(identity))
    hooks = SupervisorHooks(memory.sample, accountant.new_segment, options.ends_after)
    outcome = Supervisor(context, prepared, trainer, checkpoints, hooks, work_set).run()
    trained = outcome.trained
    context.membership.refresh()  # waits while the scheduler is silent: the workers' readings pass through it
    closed_account = accountant.account(rounds_of(trained.meters, outcome.workers))
    efficiency = of_rounds(trained.meters, outcome.workers, features=len(fitted.recipe.features))
    done = RunResult(prepared, outcome, options.folder, memory, closed_account, efficiency)
    model, summary = save_model(context, done)
    results.append(TrainResult(model, summary))
    if (reason := store.remove()) is not None:
        context.emit_note(f"the model is saved; its checkpoints in {store.folder} cannot be removed: {reason}")
        summary["notes"] = [plain(note) for note in context.notes]
    context.emit(Saved(path=str(model.path), sha256=model.sha256))
    if context.job.output.report:
        results[0] = _with_report(context, done, results[0])
    results[0] = _with_audit(context, done, options, results[0])


def _with_report(context: RunContext, done: RunResult, saved: TrainResult) -> TrainResult:
    """Draws the report; a note if that fails: the model is saved."""
    try:
        audit = _audit(context, done)
        return TrainResult(*save_report(context, done, saved.model, None if audit is None else audit.to_dict()))
    except Exception as error:
        context.emit_note(f"the model is saved; its report cannot be made: {error_line(error)}")
        saved.summary["notes"] = [plain(note) for note in context.notes]
        return saved


def _audit(context: RunContext, done: RunResult) -> Audit | None:
    """The audit of a run that was planned; a note if it cannot be made: the model is saved."""
    try:
        return Audit.of(context, done)
    except Exception as error:
        context.emit_note(f"the model is saved; it cannot be compared with its plan: {error_line(error)}")
        return None


def _with_audit(context: RunContext, done: RunResult, options: TrainOptions, saved: TrainResult) -> TrainResult:
    """Adds the audit to the summary, the model folder and the history; a note if that fails: the model is saved.

    A run that was resumed or interrupted adds no line: it did not what was planned.
    """
    audit = _audit(context, done)
    if audit is not None:
        saved.summary["audit"] = audit.to_dict()
        regular = not options.resume and not context.incidents
        try:
            saved = TrainResult(add_documents(saved.model, {AUDIT: dump(audit.to_dict())}), saved.summary)
            why = add_to_history(audit.line) if context.job.output.audit and regular else None
        except Exception as error:
            why = f"the model is saved; its audit cannot be kept: {error_line(error)}"
        if why is not None:
            context.emit_note(why)
    saved.summary["notes"] = [plain(note) for note in context.notes]
    return saved
