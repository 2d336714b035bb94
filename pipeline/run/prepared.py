"""Reads and encodes rows once, for many trainings on them."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from distributed import Client

from pipeline.cluster.memory import PeakMemory
from pipeline.config.job import Job
from pipeline.config.parameters import ALIASES, PARAMETERS, check_fitting, check_params
from pipeline.config.quantities import parse_duration
from pipeline.data.files import waiting
from pipeline.data.opened_sources import Inputs
from pipeline.errors import JobError, PipelineError
from pipeline.events.types import EventHandler, RoundDone, discard
from pipeline.preprocess.constraints import check_constraints
from pipeline.preprocess.prepare import prepare as prepare_rows
from pipeline.run.finish import default_folder
from pipeline.run.metadata import resolve
from pipeline.run.output_lock import prepare_output_dir
from pipeline.run.train import (
    NO_WORKERS,
    SharedRows,
    TrainOptions,
    TrainResult,
    cleanup_errors_as_notes,
    place,
    refusals_as_failures,
    run_training,
)
from pipeline.runtime.context import RunContext, clear_exception_frames, new_run
from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.rpc import require_client
from pipeline.runtime.sessions import close_run, open_run
from pipeline.runtime.timing import StageTimer, monotonic_epoch
from pipeline.training.checkpoint import CheckpointStore
from pipeline.training.trainers import trainer_named
from pipeline.training.workset import WorkSet


class Prepared:
    """Rows on a cluster, ready to be trained on.  Valid inside the `with` of `pipeline.prepare`."""

    def __init__(self, context: RunContext, shared: SharedRows, memory: PeakMemory) -> None:
        self._context, self._shared, self._memory = context, shared, memory
        self._free = threading.Lock()
        self._closed = False

    @property
    def rows(self) -> int:
        """Training rows."""
        return self._shared.prepared.fitted.statistics.rows

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, in the model's order."""
        return tuple(self._shared.prepared.fitted.recipe.names)

    def train(
        self,
        *,
        params: Mapping[str, Any] | None = None,
        rounds: int | None = None,
        model: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        callback: Callable[[RoundDone], bool] | None = None,
        listen: EventHandler = discard,
    ) -> TrainResult:
        """Trains one model: the same, to the byte, as `pipeline.train` gives for the job with these settings.

        Only these vary; all other settings are those of the prepared job.  `params`: XGBoost's, in addition to the
        job's, or in place of them; None as a value leaves the job's out.  `rounds`: instead of the job's.  `model`: the
        folder, in place of the job's; default: a dated one under models/.  `callback` receives every reported round, in
        a thread of the client: it must be quick and must not use the client.  If it returns True, the workers stop
        together, within about a second or with the round under way; the model has the rounds done by then, and their
        efficiency is not measured.  To stop at an exact round, set `rounds`.  JobError for parameters that the prepared
        rows do not allow; other errors as from `pipeline.train`.
        """
        if self._closed:
            raise JobError("the prepared rows are gone: train inside the `with` of pipeline.prepare")
        if callback is not None and not callable(callback):
            raise JobError(f"callback is a {type(callback).__name__}: expected a function of a RoundDone event")
        if not self._free.acquire(blocking=False):
            raise JobError("these rows are being trained on: start the next training after that")
        try:
            return self._train(params or {}, rounds, model, overwrite, callback, listen)
        finally:
            self._free.release()

    def _train(
        self,
        params: Mapping[str, Any],
        rounds: int | None,
        model: str | os.PathLike[str] | None,
        overwrite: bool,
        callback: Callable[[RoundDone], bool] | None,
        listen: EventHandler,
    ) -> TrainResult:
        base, run = self._context, new_run()
        with refusals_as_failures(listen, run):
            job = self._job(params, rounds)
            folder = prepare_output_dir(model or default_folder(run), resume=False, overwrite=overwrite)
        written = {"overwrite": overwrite, "model": None if model is None else os.fspath(model)}
        job = job.model_copy(update={"output": job.output.model_copy(update=written)})
        clock = StageTimer(begin=monotonic_epoch())
        context = RunContext(base.client, base.membership, job, base.placement, [listen], clock, run)
        context.notes, context.plan = list(base.notes), base.plan
        saved: list[TrainResult] = []
        base.membership.begin_again()
        try:
            with cleanup_errors_as_notes(saved, listen), _heard_by(context):
                inputs = replace(self._shared.prepared.inputs, job=job)
                options = TrainOptions(inputs, folder, False, self._shared, callback)
                run_training(context, options, self._memory, saved)
        except Exception as error:
            if not isinstance(error, PipelineError):  # of the caller's callback or listener, as pruners end a trial
                CheckpointStore(folder).remove()
            raise
        finally:
            base.placement = context.placement
            self._shared.work_set.adopt(base, self._shared.prepared)
        return saved[0]

    def close(self) -> None:
        """Has the workers drop the rows and matrices."""
        self._closed = True
        self._shared.work_set.release()
        self._shared.prepared.in_memory_rows.release()

    def _job(self, params: Mapping[str, Any], rounds: int | None) -> Job:
        """The prepared job with these settings; JobError where they are invalid or need other rows."""
        base = self._shared.prepared.inputs.job
        if not isinstance(params, Mapping):
            raise JobError(
                f'params is a {type(params).__name__}: expected XGBoost\'s parameters, e.g. {{"max_depth": 6}}'
            )
        params = dict(params)
        if params.pop("max_bin", None) not in (None, base.training.max_bin):
            raise JobError(
                f"params.max_bin: the rows are encoded in {base.training.max_bin} bins: prepare them again, with "
                "training.max_bin"
            )
        if "ndcg_exp_gain" in params:
            raise JobError("params.ndcg_exp_gain decides which grades are valid: prepare the rows again with it")
        # Also those that are to be left out: a misspelt name would leave nothing out.
        if unknown := [name for name in params if name not in PARAMETERS]:
            check_params(dict.fromkeys(unknown, 0))
        fields = base.model_dump()
        replaced = {other for pair in ALIASES for other in pair if set(pair) & params.keys()}
        kept = {name: value for name, value in base.training.params.items() if name not in replaced}
        wanted = {**kept, **params}
        fields["training"]["params"] = {name: value for name, value in wanted.items() if value is not None}
        if rounds is not None:
            fields["training"]["rounds"] = getattr(rounds, "item", lambda: rounds)()  # of NumPy, too
        job = Job.parse(fields, origin="Prepared.train")
        target, training = self._shared.prepared.target, job.training
        check_params(training.params, training.metrics, target.objective)
        check_fitting(training.params, target.objective)
        check_constraints(training, self._shared.prepared.fitted.recipe, target.kind)
        trainer_named().check(training, target.objective)
        return job


@contextlib.contextmanager
def prepare(
    client: Client,
    job: Job,
    *,
    source: object | None = None,
    names: Sequence[str] | None = None,
    listen: EventHandler = discard,
    allow_code: bool = False,
) -> Iterator[Prepared]:
    """Reads and encodes the job's rows once; inside the `with`, `Prepared.train` trains as often as wanted.

    Arguments and errors are those of `pipeline.train`.  The workers hold the quantised matrices until the `with` ends.
    A worker that is lost, between trainings or in one, is replaced as in `pipeline.train`.
    """
    require_client(client)
    run, clock = new_run(), StageTimer(begin=monotonic_epoch())
    with clock.stage("metadata"), waiting.notes_to(listen):
        inputs = resolve(job, source, names=names, allow_code=allow_code)
    membership = WorkerMembership(
        client, job.cluster.hang_seconds, patience_seconds=parse_duration(job.cluster.patience)
    )
    with PeakMemory() as memory, membership:
        context = RunContext(client, membership, inputs.job, NO_WORKERS, [listen], clock, run)
        with _heard_by(context):
            try:
                shared = _read(context, inputs)
                with contextlib.closing(Prepared(context, shared, memory)) as ready:
                    yield ready
            finally:
                close_run(client, run)


def _read(context: RunContext, inputs: Inputs) -> SharedRows:
    """Places the workers and runs the passes over the rows."""
    try:
        with context.membership.translate_connection_errors():
            with context.clock.stage("connect"):
                place(context, inputs)
            context.membership.call(lambda: open_run(context.client, context.run))
            with context.collect_spans():
                context.emit_note(*context.placement.notes, *inputs.notes)
                prepared = prepare_rows(context, inputs)
            return SharedRows(prepared, WorkSet(context, prepared, trainer_named()))
    except BaseException as error:
        clear_exception_frames(error)
        raise


@contextlib.contextmanager
def _heard_by(context: RunContext) -> Iterator[None]:
    """Inside, the notes and losses of the cluster are this run's."""
    membership = context.membership
    before = membership.note, membership.lost, membership.ended
    membership.note, membership.lost = context.emit_note, context.worker_lost
    try:
        yield
    finally:
        membership.note, membership.lost, membership.ended = before
