"""Finds the settings of a job by which users distinguish runs, and those that have no effect on its run.

The latter are noted, not refused: one job file may serve for files of several formats, for a local cluster and a running
scheduler, or with and without validation.  Settings that contradict each other are refused elsewhere.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.config.job import Cluster, Column, Job, Preprocess, Section, storable
from pipeline.config.names import matches
from pipeline.preprocess.settings import COLUMN_OPTIONS, Kind

OWN_CLUSTER = ("threads", "memory", "local_directory", "gpu_pool", "gpu_spill", "dashboard_hosts")
CATEGORY_SETTINGS = ("max_levels", "min_count", "high_cardinality", "tracked_levels")
SHOWN = (
    "data.source", "data.target", "data.validation", "training.objective", "training.rounds", "training.early_stopping",
    "training.metrics", "training.params", "training.row_sample", "training.seed", "cluster.scheduler", "output.model",
)  # fmt: skip
SHOWN_CHARACTERS = 200  # of one setting


def shown_settings(job: Job) -> dict[str, str]:
    """Returns the fields of a job by which a user distinguishes runs."""
    fields = storable(job)
    values = {
        name: fields[section][field] for name, (section, _, field) in ((one, one.partition(".")) for one in SHOWN)
    }
    return {
        name: textwrap.shorten(_setting_text(value), SHOWN_CHARACTERS)
        for name, value in values.items()
        if _setting_text(value)
    }


def _setting_text(value: Any) -> str:
    """Formats a field as text; leaves out what is not set.

    >>> _setting_text({"share": None, "column": "month", "values": [11, 12]})
    'column = month, values = 11, 12'
    """
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_setting_text(one)}" for name, one in value.items() if _setting_text(one))
    if isinstance(value, list):
        return ", ".join(map(_setting_text, value))
    return "" if value is None else str(value)


def unused_settings(
    job: Job, formats: Sequence[str], columns: Mapping[str, Column], kinds: Mapping[str, Kind]
) -> list[str]:
    """Returns a note for each setting that is given and has no effect.

    `formats`: of the sources, e.g. "parquet"; `columns` and `kinds`: the options and the kind of each feature column.
    """
    notes = []
    if "csv" not in formats:
        notes += [f"data.csv.{name} has no effect: no source is CSV" for name in _given(job.data.csv)]
    stopping = job.training.early_stopping
    if job.data.validation is None and stopping and "early_stopping" in job.training.model_fields_set:
        notes.append(
            f"training.early_stopping = {stopping} has no effect: no rows are held out (data.validation), all "
            f"{job.training.rounds} rounds are trained"
        )
    notes += _of_categories(job.preprocess, columns, kinds)
    notes += _of_columns(job.preprocess, kinds)
    notes += _of_cluster(job.cluster)
    return notes


def _given(section: Section) -> list[str]:
    """Returns the fields that are not as their defaults."""
    fields = type(section).model_fields
    return [name for name, field in fields.items() if getattr(section, name) != field.default]


def _of_categories(preprocess: Preprocess, columns: Mapping[str, Column], kinds: Mapping[str, Kind]) -> Iterator[str]:
    """Yields the notes on settings for columns that are categories, or are encoded in one way."""
    encodings = [columns[name].encoding for name, kind in kinds.items() if kind == "category"]
    possible = {preprocess.high_cardinality if encoding == "auto" else encoding for encoding in encodings}
    needed: dict[str, Any] = {"smoothing": "target", "folds": "target", "hash_bins": "hash"}
    for name in _given(preprocess):
        if name in (*CATEGORY_SETTINGS, *needed) and not encodings:
            yield f"preprocess.{name} has no effect: no feature column is a category"
        elif name in needed and needed[name] not in possible:
            yield (
                f"preprocess.{name} has no effect: no column has the {needed[name]} encoding "
                "(preprocess.high_cardinality, preprocess.columns.NAME.encoding)"
            )
        elif name == "high_cardinality" and "auto" not in encodings:
            yield "preprocess.high_cardinality has no effect: the job names the encoding of every category"


def _of_columns(preprocess: Preprocess, kinds: Mapping[str, Kind]) -> Iterator[str]:
    """Yields the notes on options of columns of which no matching column is of the kind that the option is for.

    For an exact name such an option is an error, which `kind_of` raises; here are patterns, and columns that are dropped.
    """
    for pattern, column in preprocess.columns.items():
        found = {kind for name, kind in kinds.items() if matches(pattern, name)}
        for option, kind in COLUMN_OPTIONS.items():
            if getattr(column, option) != Column.model_fields[option].default and not {kind, "missing"} & found:
                yield (
                    f"preprocess.columns.{pattern}.{option} has no effect: it is for a {kind}, and the matching columns "
                    f"are of the kind {', '.join(sorted(found))}"
                )


def _of_cluster(cluster: Cluster) -> Iterator[str]:
    """Yields the notes on settings for a cluster of our own where a running scheduler is used, and for GPUs on CPUs."""
    for name in _given(cluster):
        if cluster.scheduler is not None and name in OWN_CLUSTER:
            yield f"cluster.{name} has no effect: cluster.scheduler names a running cluster, which was started without it"
        elif cluster.device == "cpu" and name in ("gpu_pool", "gpu_spill"):
            yield f'cluster.{name} has no effect: cluster.device = "cpu"'
        elif not cluster.dashboard and name == "dashboard_hosts":
            yield "cluster.dashboard_hosts has no effect: cluster.dashboard = false"
