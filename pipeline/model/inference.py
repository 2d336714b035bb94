"""Turns raw columns into predictions: the only implementation, used in this process and on workers."""

import dataclasses
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipeline.data.schema.derive import Derivation, apply, function_sha256
from pipeline.data.schema.target import Target
from pipeline.errors import DataError, ModelError
from pipeline.metrics.exact import as_probability
from pipeline.model.manifest import Manifest
from pipeline.model.schema import to_table
from pipeline.preprocess.apply import matrix
from pipeline.preprocess.recipe import Recipe

CHUNK_ROWS = 1 << 17  # rows in a matrix at one time
# Fewer rows are predicted by one thread: it is as fast, and a process that was forked after a prediction of many
# threads would wait for threads that it does not have.
FEW_ROWS = 1_000
_MAKING = threading.Lock()


class Predictor(Protocol):
    """The parts of a model that a prediction needs: the booster, the classes and the recipe; a `Model` satisfies it."""

    @property
    def manifest(self) -> Manifest: ...
    @property
    def recipe(self) -> Recipe: ...
    @property
    def allow_code(self) -> bool: ...
    @property
    def classes(self) -> tuple[Any, ...]: ...
    def threads_for(self, rows: int) -> int: ...
    def booster_for(self, rows: int) -> Any: ...


def make_booster(content: bytes, threads: int) -> Any:
    """The booster in bytes whose hash has been checked; ModelError where they are not a model.

    The thread count is set here: set later, quantile objectives fail at the next prediction in place (XGBoost 3.4.1).
    """
    import xgboost  # late: reading only a manifest does not need it

    try:
        # Loading a model takes all cores unless this is set: the booster's own setting is applied later.
        with _MAKING, xgboost.config_context(nthread=threads):
            return xgboost.Booster({"nthread": threads, "verbosity": 1}, model_file=bytearray(content))
    except xgboost.core.XGBoostError:
        raise ModelError("model.ubj: damaged: XGBoost cannot read it") from None


def derivation_of(manifest: Manifest, allow_code: bool) -> Derivation:
    """The derivation with the user's consent for this call."""
    return dataclasses.replace(manifest.derivation, allow_code=allow_code)


def check_function(manifest: Manifest, allow_code: bool) -> None:
    """ModelError if the user's function is not the one the model was trained with; checked only if it may run."""
    if manifest.derivation.function is None or not allow_code:
        return
    if function_sha256(derivation_of(manifest, allow_code)) != manifest.function_sha256:
        raise ModelError(f"data.function {manifest.derivation.function}: its source has changed since the training")


def features(model: Predictor, data: Any, names: Sequence[str] | None = None) -> pa.Table:
    """(rows) the recipe's input columns, raw and derived, made from rows in memory."""
    manifest = model.manifest
    table = to_table(data, manifest.needed, names)
    derivation = derivation_of(manifest, model.allow_code)
    if derivation:
        table, _ = apply(derivation, table, only=set(manifest.roles.features), where=False)
    return table.select(list(manifest.roles.features))


def predict(model: Predictor, table: pa.Table) -> np.ndarray:
    """(rows,) or (rows, outputs) float32 from the recipe's input columns; margins of binary:logitraw are converted to
    probabilities.
    """
    return as_probability(model.manifest.target.objective, predict_raw(model, table))


def predict_raw(model: Predictor, table: pa.Table) -> np.ndarray:
    """(rows,) or (rows, outputs) float32 as XGBoost predicts them.  DataError for infinite values."""
    if not table.num_rows:
        outputs = len(model.classes) if model.manifest.target.kind == "multiclass" else len(model.manifest.quantiles)
        return np.empty((0, outputs) if outputs > 1 else 0, dtype=np.float32)
    booster = model.booster_for(table.num_rows)
    parts = [booster.inplace_predict(_matrix(model, part), validate_features=False) for part in _chunks(table)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def contributions(model: Predictor, table: pa.Table) -> np.ndarray:
    """(rows, features + 1) or (rows, outputs, features + 1) float32 from the recipe's input columns."""
    import xgboost

    booster, threads = model.booster_for(table.num_rows), model.threads_for(table.num_rows)
    parts = []
    for part in _chunks(table):
        data = xgboost.DMatrix(
            _matrix(model, part),
            feature_names=booster.feature_names,
            feature_types=booster.feature_types,
            nthread=threads,
            enable_categorical=True,
        )
        parts.append(booster.predict(data, pred_contribs=True))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def decide(target: Target, prediction: np.ndarray) -> np.ndarray:
    """(rows,) the class of each row; among equally probable classes the first."""
    names = np.asarray(target.classes)
    if prediction.ndim == 2:
        return names[prediction.argmax(axis=1)]
    return (
        names[prediction.astype(np.int64)]
        if target.kind == "multiclass"
        else names[(prediction > 0.5).astype(np.int64)]
    )


def _chunks(table: pa.Table) -> list[pa.Table]:
    """Slices that bound the memory of a prediction; one empty slice for an empty table."""
    return [table.slice(start, CHUNK_ROWS) for start in range(0, max(1, table.num_rows), CHUNK_ROWS)]


def _matrix(model: Predictor, table: pa.Table) -> np.ndarray:
    """(rows, features) float32; DataError naming the column of an infinite value."""
    values = matrix(model.recipe, table)
    infinite = np.isinf(values).any(axis=0)
    if infinite.any():
        feature = model.recipe.features[int(infinite.argmax())]
        raise DataError(
            f"column {feature.column!r} holds an infinite value (or one beyond float32): correct or remove it"
        )
    return values
