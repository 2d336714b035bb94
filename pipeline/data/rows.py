"""Loads one fragment as rows ready for use: features, label, weight, group, and the training/validation split."""

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data import keys
from pipeline.data.fragment_rows import Rows
from pipeline.data.fragments import Fragment
from pipeline.data.groups import group_keys, starts_of_runs
from pipeline.data.reading import read_fragment
from pipeline.data.schema.derive import NO_DERIVATION, Derivation, apply, check
from pipeline.data.schema.roles import Roles
from pipeline.data.schema.target import Target, encode_labels
from pipeline.data.source import Source
from pipeline.data.split import TRAIN, VALIDATION, Split, split_rows
from pipeline.errors import DataError

__all__ = ["TRAIN", "VALIDATION", "RowPlan", "Rows", "SelectedRows", "Split", "load_rows", "read_columns", "split_rows"]


@dataclass(frozen=True)
class RowPlan:
    """The parameters of `load_rows` in addition to the fragment."""

    roles: Roles
    derivation: Derivation = NO_DERIVATION
    target: Target | None = None  # None: no labels are needed
    split: Split | None = None  # None: no use codes
    seed: int = 0
    purpose: Literal["training", "prediction"] = "training"  # evaluation reads as training does


@dataclass(frozen=True)
class SelectedRows:
    """Columns of one fragment, derived ones included, without the rows that `where` leaves out."""

    table: pa.Table
    row_ids: np.ndarray  # (rows,) uint64
    filtered: int  # rows that `where` left out

    def keep(self, mask: np.ndarray) -> "SelectedRows":
        """Only the rows where the mask (rows,) is True."""
        return SelectedRows(self.table.filter(pa.array(mask)), self.row_ids[mask], self.filtered)


def load_rows(source: Source, fragment: Fragment, plan: RowPlan, payload: object = None) -> Rows:
    """Reads a fragment, derives, filters, drops rows without a label, and splits.

    At prediction every row is kept, and there is no label, weight, group or split.  DataError names the column and
    the first row id of a bad label or weight.  Nothing is copied unless rows are dropped.
    """
    roles = plan.roles
    if plan.purpose == "prediction":
        chosen = read_columns(source, fragment, plan.derivation, [*roles.features, *roles.id], roles.predict, payload)
        table, ids = chosen.table.select(roles.features), chosen.table.select(roles.id)
        return Rows(fragment.index, table, chosen.row_ids, None, None, None, chosen.row_ids, None, ids)
    parts = [
        roles.target if plan.target else None,
        roles.weight,
        roles.group,
        plan.split.column if plan.split else None,
    ]
    wanted = [*roles.features, *(name for name in parts if name is not None)]
    chosen = read_columns(source, fragment, plan.derivation, wanted, roles.read, payload, where=True)
    dropped = {"where": chosen.filtered} if chosen.filtered else {}
    label = None
    if plan.target is not None:
        chosen, label, missing = _labelled(chosen, plan.target)
        if missing:
            dropped["label missing"] = missing
    group, fold_key = _groups(chosen, roles.group, fragment.index)
    weight = None if roles.weight is None else _weights(chosen, roles.weight)
    if weight is not None and group is not None:
        _check_whole_queries(weight, group, str(roles.weight), chosen.row_ids)
    return Rows(
        fragment=fragment.index,
        table=chosen.table.select(roles.features),
        row_ids=chosen.row_ids,
        label=label,
        weight=weight,
        group=group,
        fold_key=fold_key,
        use=None if plan.split is None else _use(plan.split, chosen, group, fold_key),
        dropped=dropped,
    )


def read_columns(
    source: Source,
    fragment: Fragment,
    derivation: Derivation,
    wanted: Collection[str],
    raw: Collection[str] | None = None,
    payload: object = None,
    *,
    where: bool = False,
) -> SelectedRows:
    """The wanted columns (raw and derived) of a fragment; `raw`: the raw columns they need, if already known."""
    if raw is None:
        raw = _raw_columns(derivation, source.schema, frozenset(wanted), where)
    table = read_fragment(source, fragment, columns=list(raw), payload=payload)
    rows = table.num_rows
    if derivation:
        table, kept = apply(derivation, table, only=wanted, where=where)
        row_ids = keys.row_ids(fragment.index, kept.astype(np.uint64))
    else:
        row_ids = keys.row_ids(fragment.index, np.arange(rows, dtype=np.uint64))
    return SelectedRows(table, row_ids, rows - len(row_ids))


@functools.lru_cache(maxsize=64)
def _raw_columns(derivation: Derivation, schema: pa.Schema, wanted: frozenset[str], where: bool) -> tuple[str, ...]:
    """The raw columns to read for the wanted columns and the filter, in the order of the schema."""
    derived = check(derivation, schema, only=wanted, where=where)
    needed = derived.raw_inputs(wanted) | derived.where
    return tuple(name for name in schema.names if name in needed)


def _labelled(chosen: SelectedRows, target: Target) -> tuple[SelectedRows, np.ndarray, int]:
    """(the rows that have a label, their labels, how many had none)."""
    label = encode_labels(target, chosen.table.column(target.column))
    infinite = np.isinf(label)
    if infinite.any():
        where = keys.place_of(int(chosen.row_ids[infinite.argmax()]))
        raise DataError(f"the target {target.column} is infinite in {int(infinite.sum())} rows, first at {where}")
    present = ~np.isnan(label)
    kept = int(np.count_nonzero(present))
    if kept == len(label):
        return chosen, label, 0
    return chosen.keep(present), label[present], len(label) - kept


def _weights(chosen: SelectedRows, name: str) -> np.ndarray:
    """(rows,) float32, all finite and >= 0; DataError otherwise."""
    column = chosen.table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        raise DataError(f"the weight {name} is {column.type}; weights are numbers >= 0")
    if column.type != pa.float32():
        column = column.cast(pa.float32(), safe=False)
    column = pc.fill_null(column, np.nan) if column.null_count else column
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    weight: np.ndarray = array.to_numpy(zero_copy_only=False)
    good = (weight >= 0) & (weight < np.inf)
    if not good.all():
        place = int((~good).argmax())
        value = weight[place]
        what = "missing" if np.isnan(value) else "negative" if value < 0 else "infinite"
        raise DataError(
            f"the weight {name} is {what} at {keys.place_of(int(chosen.row_ids[place]))}; weights are numbers >= 0"
        )
    return weight


def _check_whole_queries(weight: np.ndarray, group: np.ndarray, name: str, row_ids: np.ndarray) -> None:
    """DataError where the rows of a query do not weigh the same: for ranking, XGBoost weighs whole queries."""
    starts = starts_of_runs(group)
    differs = weight != np.repeat(weight[starts], np.diff(starts, append=len(group)))
    if differs.any():
        where = keys.place_of(int(row_ids[differs.argmax()]))
        raise DataError(f"the weight {name} changes within a query at {where}; ranking weighs whole queries")


def _groups(chosen: SelectedRows, name: str | None, fragment: int) -> tuple[np.ndarray | None, np.ndarray]:
    """(the query's key per row or None, the key that folds and split are drawn by)."""
    if name is None:
        return None, chosen.row_ids
    group = group_keys(chosen.table.column(name), name, fragment)
    starts = starts_of_runs(group)
    lengths = np.diff(starts, append=len(group))
    return group, np.repeat(chosen.row_ids[starts], lengths)


def _use(split: Split, chosen: SelectedRows, group: np.ndarray | None, fold_key: np.ndarray) -> np.ndarray:
    use = split_rows(split, chosen.table, fold_key)
    if group is None:
        return use
    starts = starts_of_runs(group)  # all rows of a query go where its first row goes
    return np.repeat(use[starts], np.diff(starts, append=len(group)))
