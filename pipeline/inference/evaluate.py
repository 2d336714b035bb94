"""Computes exact metrics of a model on labelled data."""

import contextlib
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from distributed import Client, Future

from pipeline.data.files import waiting
from pipeline.data.fragments import Fragment
from pipeline.data.frames import computed
from pipeline.data.opened_sources import reader
from pipeline.data.rows import RowPlan, load_rows
from pipeline.data.schema.differences import check_in_every_file
from pipeline.data.source import Source
from pipeline.data.valueless import with_types
from pipeline.errors import DataError
from pipeline.events.types import Evaluated, EventHandler, Failed, FragmentDone, Started, discard
from pipeline.inference.predict import await_any, in_flight, open_for, rows_of, tell_of
from pipeline.metrics import exact
from pipeline.metrics.exact import Metrics
from pipeline.model import inference
from pipeline.model.artifact import Model, as_model
from pipeline.model.schema import check_schema, misfits
from pipeline.runtime.context import clear_exception_frames
from pipeline.runtime.rpc import require_client, translate_connection_errors
from pipeline.runtime.shared_value import broadcast
from pipeline.runtime.task_errors import task
from pipeline.runtime.timing import span

Scored = tuple[int, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]
# (fragment, prediction, label, weight, group)


def evaluate(
    client: Client | None,
    model: Model | str | os.PathLike[str],
    data: Any,
    *,
    names: Sequence[str] | None = None,
    csv: Mapping[str, Any] | None = None,
    listen: EventHandler = discard,
) -> Metrics:
    """The metrics over all rows that have a label and pass the job's `where`; without a client, in this process.

    `model`: a model, or its folder.  `data`: names of files, rows in memory, a Dask DataFrame or Array; `names`: those
    of an array's columns.  `csv`: fields of `data.csv` that differ from those of the training.  Predictions and labels
    of all rows are collected in this process: 8 to 20 bytes a row.  DataError where the data lack the target or another
    column, or no row has a label.
    """
    if client is not None:
        require_client(client)
    begin = time.time()
    listen(Started(verb="evaluate", run=uuid.uuid4().hex[:12]))
    try:
        model = as_model(model)
        with contextlib.nullcontext() if client is None else translate_connection_errors(client):
            with waiting.notes_to(listen):
                source = open_to_evaluate(model, data, names, csv)
            if client is not None:
                await_any(client, listen)
            metrics = _evaluate(client, model, source, listen)
    except BaseException as error:
        clear_exception_frames(error)
        listen(Failed.of(error))
        raise
    listen(Evaluated(metrics=_numbers(metrics), seconds=time.time() - begin))
    return metrics


def _evaluate(client: Client | None, model: Model, source: Source, on_event: EventHandler) -> Metrics:
    tell_of(source, model.manifest.roles.read, on_event)
    target = model.manifest.target
    plan = RowPlan(model.manifest.roles, inference.derivation_of(model.manifest, model.allow_code), target)
    parts = []
    for done, scored in enumerate(_scores(client, model, source, plan, on_event), start=1):
        on_event(FragmentDone(stage="evaluate", done=done, total=len(source.fragments), rows=len(scored[2])))
        parts.append(scored)
    parts.sort(key=lambda part: part[0])
    prediction, label, weight, group = (_together([part[i] for part in parts]) for i in range(1, 5))
    assert prediction is not None
    assert label is not None
    if not len(label):
        raise DataError(f"no row to evaluate on: none has a value of {target.column!r} and passes data.where")
    quantiles = model.manifest.quantiles
    return exact.evaluate(target.kind, target.objective, prediction, label, weight, group, quantiles=quantiles)


def open_to_evaluate(
    model: Model, data: Any, names: Sequence[str] | None = None, csv: Mapping[str, Any] | None = None
) -> Source:
    """The data as a source to evaluate the model on; a source that is already open is returned."""
    if isinstance(data, Source):
        return data
    roles = model.manifest.roles
    source = open_for(model, data, roles.read, names, csv)
    columns = model.manifest.named(roles.read)
    source = with_types(source, misfits(columns, source.schema))
    check_schema(columns, source.schema)
    labelled = {"data.target": roles.target, "data.weight": roles.weight, "data.group": roles.group}
    check_in_every_file(source.drift, labelled, len(source.files))
    return source


def _scores(client: Client | None, model: Model, source: Source, plan: RowPlan, on_event: EventHandler) -> Any:
    if client is None:
        here = ((fragment, computed(source.payload(fragment))) for fragment in source.fragments)
        return (_score(source, plan, model, fragment, payload) for fragment, payload in here)
    small = reader(source)
    sent = broadcast(client, model.with_threads(1))

    def submit(fragment: Fragment) -> Future:
        payload = rows_of(client, source, fragment)
        return client.submit(_score, small, plan, sent.future(), fragment, payload, pure=False)

    return in_flight(client, source.fragments, submit, on_event)


@task
def _score(source: Source, plan: RowPlan, model: Model, fragment: Fragment, payload: object) -> Scored:
    """One fragment's predictions with its labels."""
    with span("evaluate"):
        rows = load_rows(source, fragment, plan, payload)
        assert rows.label is not None
        return fragment.index, inference.predict_raw(model, rows.table), rows.label, rows.weight, rows.group


def _together(parts: list[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known else None


def _numbers(metrics: Metrics) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, float)}
