"""What must hold of whatever comes out: nothing lost, nothing merged, nothing invented."""

import decimal
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.local_preparation import Ready
from pipeline.config.encoding import ENCODING
from pipeline.data.rows import load_rows
from pipeline.preprocess.apply import matrix
from pipeline.preprocess.features import Category, Number
from pipeline.preprocess.recipe import Recipe
from tests.any_input.effort import SECRET


def check_ready(ready: Ready, table: pa.Table) -> None:
    """Of the blocks made of a table: rows, labels and weights, codes, features."""
    _check_rows(ready, table)
    _check_labels(ready, table)
    _check_codes(ready)
    _check_features(ready)
    _check_findings(ready)


def _check_rows(ready: Ready, table: pa.Table) -> None:
    """Every row of the table trains, validates or is reported as left out."""
    statistics = ready.fitted.statistics
    left_out = sum(statistics.dropped.values())
    assert statistics.rows + statistics.validation_rows + left_out == table.num_rows
    assert sum(len(block.label) for block in ready.blocks) == statistics.rows + statistics.validation_rows
    ids = np.concatenate([block.row_ids for block in ready.blocks])
    assert len(np.unique(ids)) == len(ids)


def _check_labels(ready: Ready, table: pa.Table) -> None:
    target = ready.target
    labels = np.concatenate([block.label for block in ready.blocks])
    assert labels.dtype == np.float32
    assert np.isfinite(labels).all()
    for block in ready.blocks:
        assert block.weight is None or (np.isfinite(block.weight).all() and (block.weight >= 0).all())
    if target.classes:
        assert len(set(target.classes)) == len(target.classes)
        assert set(np.unique(labels)) <= set(range(len(target.classes)))
        assert sum(target.rows) >= len(labels)
    derived = target.column in dict(ready.inputs.derivation.derive) or ready.inputs.derivation.where is not None
    if derived or target.column not in table.column_names or ready.inputs.training.format in ("csv", "libsvm"):
        return
    values = [exact(value) for value in table.column(target.column).to_pylist()]
    values = [value for value in values if value is not None]
    if target.classes:
        found = Counter(target.classes[int(label)] for label in labels)
        assert found == Counter(values), "labels are not the classes of their rows"
    assert len(values) == len(labels)
    if not target.classes:
        with np.errstate(over="ignore"):
            assert np.array_equal(np.sort(labels), np.sort(np.array([float(value) for value in values], np.float32)))


def _check_findings(ready: Ready) -> None:
    """Each names a column of the data and holds none of its values; row numbers are no features if there are others."""
    recipe = ready.fitted.recipe
    for finding in ready.fitted.findings:
        assert SECRET not in finding.message
        assert finding.column in {*ready.fitted.statistics.types, ready.target.column}
        if finding.kind == "row_number":
            counting = {one.column for one in ready.fitted.findings if one.kind == "row_number"}
            assert (finding.column in recipe.columns) == (set(recipe.columns) <= counting)
        if finding.kind == "explains_target":
            assert finding.column in recipe.columns


def exact(value: Any) -> Any:
    """A value as Python compares it without loss; None where missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return int(value) if float(value).is_integer() else float(value)
    if isinstance(value, decimal.Decimal):
        return exact(float(value))  # decimals are read as float64, which the documentation says
    return value


def _check_codes(ready: Ready) -> None:
    cuts, recipe = ready.fitted.cuts, ready.fitted.recipe
    assert len(set(recipe.names)) == len(recipe.names) == len(cuts)
    assert not np.isinf(ready.fitted.preview).any()
    assert math.isfinite(ready.fitted.mean_label)
    for points in cuts.points:
        assert np.isfinite(points).all()
        assert (np.diff(points) > 0).all()
    codes = np.concatenate([block.codes for block in ready.blocks])
    for feature, (points, levels) in enumerate(zip(cuts.points, cuts.levels, strict=True)):
        most = len(points) if levels is None else levels - 1
        of = codes[:, feature]
        assert ((of <= most) | (of == ENCODING.missing)).all()


def _check_features(ready: Ready) -> None:
    """Numbers and levels are the raw ones; the recipe that is saved does the same; a row alone as among others."""
    recipe = ready.fitted.recipe
    saved = Recipe.from_json(recipe.to_json())
    assert saved == recipe
    for unit, payload in ready.units[:2]:
        rows = load_rows(unit.source, unit.fragment, unit.rows, payload)
        made = matrix(recipe, rows.table)
        assert np.array_equal(made, matrix(saved, rows.table), equal_nan=True)
        if rows.table.num_rows:
            middle = rows.table.num_rows // 2
            alone = matrix(recipe, rows.table.slice(middle, 1))
            assert np.array_equal(made[middle : middle + 1], alone, equal_nan=True)
        for place, feature in enumerate(recipe.features):
            raw = rows.table.column(feature.column)
            if isinstance(feature, Number) and feature.plain and not pa.types.is_decimal(raw.type):
                _check_numbers(made[:, place], raw)
            elif isinstance(feature, Category) and pa.types.is_string(raw.type):
                _check_levels(made[:, place], raw.to_pylist(), feature.levels.names)


def _check_numbers(made: np.ndarray, raw: pa.ChunkedArray) -> None:
    if pa.types.is_dictionary(raw.type):
        raw = raw.cast(raw.type.value_type)
    if not (pa.types.is_integer(raw.type) or pa.types.is_floating(raw.type)):
        return
    values = [math.nan if value is None else value for value in raw.to_pylist()]
    with np.errstate(over="ignore"):
        wanted = np.array([float(value) for value in values]).astype(np.float32)
    # an integer is rounded once or, by way of float64, twice: at most the neighbouring float32
    assert np.allclose(made, wanted, rtol=2e-7, atol=0, equal_nan=True)


def _check_levels(made: np.ndarray, texts: Sequence[str | None], levels: Sequence[str]) -> None:
    for code, text in zip(made.tolist(), texts, strict=True):
        assert math.isnan(code) == (text not in levels)
        if not math.isnan(code):
            assert levels[int(code)] == text
