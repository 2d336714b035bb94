"""Predicts data of any size: writes a folder of Parquet files, one per fragment, in the order of the rows."""

import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client, Future, as_completed

from pipeline.config.job import Cluster, CsvOptions, Job
from pipeline.data.files import waiting
from pipeline.data.fragments import Fragment
from pipeline.data.keys import POSITION_BITS
from pipeline.data.opened_sources import reader
from pipeline.data.reading import count_rows
from pipeline.data.rows import RowPlan, load_rows
from pipeline.data.schema.differences import check_in_every_file, files_lack
from pipeline.data.schema.hints import ColumnHints
from pipeline.data.source import Source, open_source
from pipeline.data.tabular import dask_kind
from pipeline.data.valueless import with_types
from pipeline.errors import AccessError, OutputError, PipelineError, SourceError
from pipeline.events.findings import findings
from pipeline.events.types import EventHandler, Failed, FragmentDone, Note, Planned, Started, discard
from pipeline.model import inference
from pipeline.model.artifact import Model, as_model
from pipeline.model.schema import check_schema, misfits, schema_of
from pipeline.planning import memory
from pipeline.runtime.context import clear_exception_frames
from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.placement import await_workers
from pipeline.runtime.rpc import call_if_connected, require_client, translate_connection_errors
from pipeline.runtime.shared_value import RETRIES, broadcast, cancelled_by_others
from pipeline.runtime.task_errors import task
from pipeline.runtime.timing import span
from pipeline.storage.atomic import claim, whole_folder

CLUSTER = Cluster()  # a caller's client has no cluster section of a job
IN_FLIGHT = 2  # fragments per worker thread that are submitted and not yet done


@dataclass(frozen=True)
class PredictResult:
    """The result of a prediction: what was written."""

    out: str
    rows: int
    files: int
    seconds: float


@dataclass(frozen=True)
class _Task:
    """What every task of a prediction needs; small."""

    source: Source  # without its fragments
    plan: RowPlan
    folder: str
    contributions: bool


def predict(
    client: Client,
    model: Model | str | os.PathLike[str],
    data: Any,
    *,
    out: str | os.PathLike[str],
    contributions: bool = False,
    overwrite: bool = False,
    names: Sequence[str] | None = None,
    csv: Mapping[str, Any] | None = None,
    listen: EventHandler = discard,
) -> PredictResult:
    """Writes `out`/part-00000.parquet and so on, whole or not at all; memory is bounded by a few fragments a thread.

    `model`: a model, or its folder.  `data`: names of files, rows in memory of any kind that `Model.predict` takes, a
    Dask DataFrame or Array.  `names`: those of an array's columns; without them the array has the columns that the
    model needs, ids included, in the order of the training.  `csv`: fields of `data.csv` that differ from those of the
    training, e.g. `{"separator": ";"}`.  A Dask DataFrame is computed twice: its rows are counted first.

    Columns: the model's id columns; `row`, the global number of the row in the data (uint64); `prediction`, a number,
    class or score; for classification `probability` or `probability_<class>`; with contributions
    `contribution_<feature>` and `contribution_bias`.  OutputError where it cannot be written.
    """
    require_client(client)
    begin = time.time()
    listen(Started(verb="predict", run=uuid.uuid4().hex[:12]))
    try:
        model = as_model(model)
        folder = claim_predictions(out, overwrite)
        with (
            translate_connection_errors(client),
            client.as_current(),
            whole_folder(folder, overwrite=overwrite, ours=_is_predictions) as partial,
        ):
            named = _names_for(data, model) if names is None else names
            with waiting.notes_to(listen):
                source = open_to_predict(model, data, named, csv)
                await_any(client, listen)
                source = count_rows(source)
            rows = _predict(client, model, source, (str(partial), contributions), listen)
    except BaseException as error:
        clear_exception_frames(error)
        listen(Failed.of(error))
        raise
    return PredictResult(os.fspath(out), sum(rows), len(rows), time.time() - begin)


def await_any(client: Client, on_event: EventHandler) -> None:
    """Waits until the cluster has a worker, and emits a note if it waits; ClusterError after `CLUSTER.patience`
    without one.
    """
    await_workers(client, CLUSTER, lambda message: on_event(Note(message=message)))


def claim_predictions(out: str | os.PathLike[str], overwrite: bool) -> Path:
    """The path that predictions can be written to; OutputError where they cannot be written."""
    return claim(out, overwrite=overwrite, ours=_is_predictions)


def _predict(client: Client, model: Model, source: Source, how: tuple[str, bool], on_event: EventHandler) -> list[int]:
    """Writes the fragments' files, `how` being the folder and whether with contributions; returns the rows of each."""
    tell_of(source, model.manifest.roles.predict, on_event)
    rows = [int(fragment.rows or 0) for fragment in source.fragments]
    firsts = np.concatenate([[0], np.cumsum(rows)]).tolist()
    derivation = inference.derivation_of(model.manifest, model.allow_code)
    task = _Task(reader(source), RowPlan(model.manifest.roles, derivation, purpose="prediction"), *how)
    _announce(client, model, source, on_event)
    sent = broadcast(client, model.with_threads(1))

    def submit(fragment: Fragment) -> Future:
        first = firsts[fragment.index]
        payload = rows_of(client, source, fragment)
        return client.submit(_write, task, sent.future(), fragment, first, payload, pure=False)

    for done, written in enumerate(in_flight(client, source.fragments, submit, on_event), start=1):
        on_event(FragmentDone(stage="predict", done=done, total=len(rows), rows=written))
    return rows


def open_to_predict(
    model: Model, data: Any, names: Sequence[str] | None = None, csv: Mapping[str, Any] | None = None
) -> Source:
    """The data as a source to predict; a source that is already open is returned.  UserError where that is
    impossible.
    """
    if isinstance(data, Source):
        return data
    roles = model.manifest.roles
    source = open_for(model, data, roles.predict, names, csv)
    columns = model.manifest.named(roles.predict)
    source = with_types(source, misfits(columns, source.schema, model.manifest.copied))
    check_schema(columns, source.schema, model.manifest.copied)
    check_in_every_file(source.drift, {f"data.id {name}": name for name in roles.id}, len(source.files))
    return source


def open_for(
    model: Model,
    data: Any,
    wanted: Collection[str] | None = None,
    names: Sequence[str] | None = None,
    csv: Mapping[str, Any] | None = None,
) -> Source:
    """The data as a source, read like the training data: CSV options, size of fragments, types.

    `wanted`: the columns that will be read, None for all; others of a pandas frame are not converted.  `names`: those
    of an array's columns.  `csv`: fields of `data.csv` that differ from the training's.  Files without a known ending
    or magic bytes have the format that the job names.
    """
    told = model.manifest.job["data"]
    named = told["format"]
    how: dict[str, Any] = {
        "csv": _csv_options(model, csv),
        "fragment_nbytes": told["fragment_mib"] * 2**20,
        "hints": ColumnHints(types=schema_of(model.manifest.columns), copied=model.manifest.copied),
        "exclude": ["*"],  # further columns are ignored, whatever their type
        "names": names,
        "only": wanted,
    }
    used = {*model.manifest.roles.read, *model.manifest.roles.predict}
    try:
        return open_source(data, format="auto", **how).with_empty(used)
    except SourceError as error:
        if named == "auto" or isinstance(error, AccessError) or not isinstance(data, (str, list)):
            raise
        return open_source(data, format=named, **how).with_empty(used)


def _csv_options(model: Model, given: Mapping[str, Any] | None) -> CsvOptions:
    """The options of the training's CSV files, overridden by `given`; JobError where one is wrong."""
    told = {**model.manifest.job["data"]["csv"], **(given or {})}
    return Job.parse({"data": {"source": [], "csv": told}}, origin="csv").data.csv


def tell_of(source: Source, columns: Collection[str], on_event: EventHandler) -> None:
    """Emits a note for each finding about the source, and for each of the columns that some of its files lack."""
    for finding in findings(source.notes):
        if finding.column is None or finding.column in columns:
            on_event(Note(message=finding.message))
    for item in source.drift:
        if item.absent is not None and item.column in columns:
            count, first = item.absent
            many = f"{files_lack(count, len(source.files))} the column {item.column!r}, e.g. {first}"
            on_event(Note(message=f"{many}: it counts as missing there"))


def _names_for(data: Any, model: Model) -> list[str] | None:
    """The names of an array's columns, if it has as many as the model needs."""
    known = [column.name for column in model.manifest.named(model.manifest.roles.predict)]
    shape: tuple[int, ...] = getattr(data, "shape", ())
    is_array = isinstance(data, np.ndarray) or dask_kind(data) == "Array"
    return known if is_array and len(shape) == 2 and shape[1] == len(known) else None


def in_flight(
    client: Client, items: Sequence[Any], submit: Callable[[Any], Future], on_event: EventHandler = discard
) -> Iterator[Any]:
    """The results of `submit(item)`, as they finish; only a few per worker thread are in flight at a time.

    The first error is raised unchanged, and the items in flight are cancelled.  Items that another client has
    cancelled, as `client.restart()` does, are submitted again, a few times.  SchedulerLostError where the scheduler is
    lost or silent for too long.
    """
    with WorkerMembership(client) as membership:
        membership.note = lambda message: on_event(Note(message=message))
        threads = sum(membership.call(client.nthreads).values())
        waiting = deque(items)
        first = [waiting.popleft() for _ in range(min(len(waiting), IN_FLIGHT * max(1, threads)))]
        under_way = {submit(item): (item, 0) for item in first}
        running = as_completed(list(under_way))
        try:
            while (future := membership.call(lambda: next(running, None))) is not None:
                item, again = under_way.pop(future)
                try:
                    result = membership.call(future.result)
                except CancelledError as error:
                    if not cancelled_by_others(error):
                        raise
                    if again == RETRIES:
                        raise PipelineError(f"tasks were cancelled {again + 1} times by another client") from None
                    following = submit(item)
                    under_way[following] = (item, again + 1)
                    running.add(following)
                    continue
                if waiting:
                    item = waiting.popleft()
                    following = submit(item)
                    under_way[following] = (item, 0)
                    running.add(following)
                yield result
        finally:
            if under_way:
                call_if_connected(client, lambda: client.cancel(list(under_way), force=True))


def rows_of(client: Client, source: Source, fragment: Fragment) -> Any:
    """The payload of a task other than its files; partitions of a Dask DataFrame are computed on the cluster."""
    payload = source.payload(fragment)
    return client.compute(payload) if isinstance(payload, list) else payload


def _prediction_table(model: Model, table: pa.Table, contributions: bool = False) -> pa.Table:
    """The columns `prediction`, probabilities and contributions of the recipe's input columns."""
    target = model.manifest.target
    scores = inference.predict(model, table)
    columns: dict[str, Any] = {}
    if target.classes:
        columns["prediction"] = pa.array(inference.decide(target, scores))
        if scores.ndim == 2:
            columns |= {f"probability_{name}": pa.array(scores[:, k]) for k, name in enumerate(target.classes)}
        elif target.kind == "binary":
            columns["probability"] = pa.array(scores)
    elif scores.ndim == 2:
        columns["prediction"] = pa.array(scores[:, _middle(model.manifest.quantiles)])
        columns |= {f"prediction_{q:g}": pa.array(scores[:, i]) for i, q in enumerate(model.manifest.quantiles)}
    else:
        columns["prediction"] = pa.array(scores)
    if contributions:
        columns |= _contribution_columns(model, inference.contributions(model, table))
    return pa.table(columns)


@task
def _write(task: _Task, model: Model, fragment: Fragment, first: int, payload: object) -> int:
    """Predicts one fragment and writes its file; returns the number of rows."""
    with span("predict"):
        rows = load_rows(task.source, fragment, task.plan, payload)
        made = _prediction_table(model, rows.table, task.contributions)
        numbers = np.uint64(first) + (rows.row_ids & np.uint64((1 << POSITION_BITS) - 1))
        assert rows.ids is not None
        table = pa.table({**_columns(rows.ids), "row": pa.array(numbers), **_columns(made)})
        path = Path(task.folder) / f"part-{fragment.index:05d}.parquet"
        try:
            pq.write_table(table, path, compression="zstd")
        except OSError as error:
            raise OutputError(f"{path.parent.parent}: cannot be written: {error.strerror or error}") from None
        return table.num_rows


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))


def _contribution_columns(model: Model, values: np.ndarray) -> dict[str, pa.Array]:
    """One column for each feature (of each class or quantile) and the bias."""
    names = [*(feature.name for feature in model.manifest.features), "bias"]
    if values.ndim == 2:
        return {f"contribution_{name}": pa.array(values[:, i]) for i, name in enumerate(names)}
    outputs = model.manifest.target.classes or [f"{q:g}" for q in model.manifest.quantiles]
    return {
        f"contribution_{output}_{name}": pa.array(values[:, k, i])
        for k, output in enumerate(outputs)
        for i, name in enumerate(names)
    }


def _middle(quantiles: Sequence[float]) -> int:
    return int(np.argmin(np.abs(np.asarray(quantiles) - 0.5)))


def _is_predictions(folder: Path) -> bool:
    """Whether a folder contains only predictions: only such a folder is replaced with --overwrite."""
    return all(path.name.startswith("part-") and path.suffix == ".parquet" for path in folder.iterdir())


def _announce(client: Client, model: Model, source: Source, on_event: EventHandler) -> None:
    threads = client.nthreads()
    if not threads:
        raise PipelineError("the cluster has no workers")
    fragment_nbytes = max(fragment.nbytes for fragment in source.fragments)
    on_event(
        Planned(
            rows=source.rows,
            features=len(model.manifest.features),
            fragments=len(source.fragments),
            workers=len(threads),
            threads=max(threads.values()),
            nbytes=memory.processes_nbytes(len(threads)) + IN_FLIGHT * sum(threads.values()) * fragment_nbytes,
        )
    )
