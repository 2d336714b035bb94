"""Saves and loads the model folder: written whole or not at all, checked before its contents are used."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.job import CsvOptions
from pipeline.config.urls import is_url, local_path
from pipeline.errors import ModelError
from pipeline.model import cuts_file, inference
from pipeline.model.checked_files import LARGEST_MANIFEST, check, content_of, place_of, read_document, sha256_of
from pipeline.model.folder import BOOSTER, CUTS, MANIFEST, METRICS, RECIPE, is_model_folder
from pipeline.model.manifest import XGBOOST, FileEntry, Manifest, dump
from pipeline.model.schema import schema_of
from pipeline.preprocess.bins import Cuts
from pipeline.preprocess.recipe import Recipe
from pipeline.storage.atomic import add_files, whole_folder, write_file

REPORT = "report.html"
CARD = "MODEL_CARD.md"
PICTURES = "pictures"
PLAN, AUDIT = "plan.json", "audit.json"
KEPT = (BOOSTER, RECIPE, METRICS)  # files that a model holds; of the others only the hash is checked when it is loaded
MOST_FILES = 1_000


@dataclass(frozen=True)
class ModelParts:
    """The contents of a model folder."""

    booster: bytes  # UBJSON
    recipe: Recipe
    manifest: Manifest  # its `files` are filled in by `save`
    metrics: Mapping[str, Any]  # "train", "validation": the exact metrics; history and further results
    card: str  # Markdown
    cuts: Cuts | None = None  # of the recipe's features; None: not known
    plan: Mapping[str, Any] | None = None  # what the run was expected to need; None: it was not planned


def save(folder: str | os.PathLike[str], parts: ModelParts, *, overwrite: bool = False) -> "Model":
    """Writes the model folder, whole or not at all, and returns the model.  OutputError where it cannot be written.

    PipelineError where the disk is full.
    """
    files = {
        BOOSTER: bytes(parts.booster),
        RECIPE: parts.recipe.to_json().encode("utf-8"),
        METRICS: dump(parts.metrics),
        **({} if parts.cuts is None else {CUTS: cuts_file.render(parts.cuts, parts.recipe.names)}),
        **({} if parts.plan is None else {PLAN: dump(parts.plan)}),
        CARD: parts.card.encode("utf-8"),
    }
    manifest = dataclasses.replace(parts.manifest, files=_entries(files))
    path = Path(os.path.abspath(local_path(folder)))
    files[MANIFEST] = manifest.render()
    nbytes = sum(map(len, files.values()))
    with whole_folder(path, overwrite=overwrite, ours=is_model_folder, nbytes=nbytes) as partial:
        for name, content in files.items():
            write_file(partial / name, content)
    return Model(path, manifest, parts.recipe, json.loads(files[METRICS]), files[BOOSTER])


def add_report(model: "Model", html: str, pictures: Mapping[str, bytes]) -> "Model":
    """Adds the report to a saved model; returns the model, whose manifest lists it.

    `pictures`: PNG, by their names without the ending.  Errors are those of `add_documents`.
    """
    return add_documents(
        model, {REPORT: html.encode("utf-8"), **{f"{PICTURES}/{name}.png": png for name, png in pictures.items()}}
    )


def add_documents(model: "Model", files: Mapping[str, bytes]) -> "Model":
    """Adds files (by their names in the folder) to a saved model; returns the model, whose manifest lists them.

    The folder is valid all the time: the manifest is replaced last.  PipelineError or OutputError where the files cannot
    be written.
    """
    entries = {**model.manifest.files, **_entries(files)}
    manifest = dataclasses.replace(model.manifest, files=dict(sorted(entries.items())))
    add_files(model.path, {**files, MANIFEST: manifest.render()})
    return dataclasses.replace(model, manifest=manifest)


def _entries(files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    return {name: FileEntry(sha256_of(content), len(content)) for name, content in sorted(files.items())}


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained model.  Predicts in this process, without a cluster; can be pickled, so that workers can receive it."""

    path: Path
    manifest: Manifest
    recipe: Recipe
    metrics: dict[str, Any]  # as in metrics.json
    booster_bytes: bytes = field(repr=False)
    threads: int = 0  # of XGBoost; 0: all cores
    allow_code: bool = False  # whether the user allowed data.function to run

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int = 0, allow_code: bool = False) -> "Model":
        """The model in a folder.

        ModelError where the folder does not exist, has a newer format, or a byte of any file has changed:
        XGBoost gets no byte before all hashes have been checked, and nothing is ever unpickled.
        """
        _check_path(path)
        if is_url(path):
            raise ModelError(f"{path}: models are read from local folders: copy it to one first")
        folder = Path(os.path.abspath(os.path.expanduser(path)))
        if not folder.is_dir():
            raise ModelError(f"{path}: no such model folder")
        if not (folder / MANIFEST).is_file():
            raise ModelError(f"{path}: not a model folder: it has no {MANIFEST}")
        manifest = Manifest.parse(read_document(folder / MANIFEST, LARGEST_MANIFEST), f"{path}/{MANIFEST}")
        for name in KEPT:
            if name not in manifest.files:
                raise ModelError(f"{path}: damaged: the manifest does not list {name}")
        if len(manifest.files) > MOST_FILES:
            raise ModelError(
                f"{path}: the manifest lists {len(manifest.files):,} files, a model has at most {MOST_FILES:,}"
            )
        if manifest.trainer != XGBOOST:
            raise ModelError(f"{path}: a model of the trainer {manifest.trainer!r}, this program reads {XGBOOST!r}")
        places = {name: place_of(folder, name, entry) for name, entry in manifest.files.items()}  # before reading any
        contents = {name: content_of(places[name], manifest.files[name]) for name in KEPT}
        for name in [name for name in places if name not in KEPT]:
            check(places[name], manifest.files[name])
        inference.check_function(manifest, allow_code)
        recipe, metrics = _read_parts(path, manifest, contents)
        return cls(folder, manifest, recipe, metrics, contents[BOOSTER], threads, allow_code)

    @property
    def sha256(self) -> str:
        """The hash of model.ubj."""
        return self.manifest.files[BOOSTER].sha256

    @property
    def classes(self) -> tuple[Any, ...]:
        """The classes in the order of the probabilities; empty unless classification."""
        return self.manifest.target.classes

    def cuts(self) -> Cuts | None:
        """The cut points with which the features were quantised; None where a version that kept none wrote the model.

        Reads cuts.json, whose hash is checked again.  ModelError where it cannot be used.
        """
        entry = self.manifest.files.get(CUTS)
        if entry is None:
            return None
        return cuts_file.parse(content_of(place_of(self.path, CUTS, entry), entry), self.manifest.features)

    def with_threads(self, threads: int) -> "Model":
        """The same model, predicting with this many threads."""
        return dataclasses.replace(self, threads=threads)

    def predict(self, data: Any, names: Sequence[str] | None = None) -> np.ndarray:
        """(rows,) float32: the positive class's probability, a value or a score; (rows, classes) for multi-class.

        `data`: an Arrow table, record batch or stream, a pandas or Polars frame, a mapping of names to columns, a
        mapping of names to values (one row, e.g. of JSON), a list of such rows, or a 2-D array with the columns
        `names`, or else those of `manifest.needed` in their order.  A value that is None, NaN or absent from some of
        the rows is missing; a column that is absent from all of them is an error, further columns are ignored.  A
        frame's named index is a column. The result equals that of `pipeline predict` to the bit.  DataError where the
        data do not fit the model.

        Fewer than 1,000 rows are predicted by one thread.  More rows, in a process forked from a process that has
        predicted with several threads, wait for ever (OpenMP's threads are not in the child): use multiprocessing's
        "spawn" or "forkserver" there, or a model loaded with `threads=1`.
        """
        return inference.predict(self, inference.features(self, data, names))

    def predict_class(self, data: Any, names: Sequence[str] | None = None) -> np.ndarray:
        """(rows,) the most probable class; ModelError for models that do not classify.  `data`, `names`: as in
        `predict`.
        """
        if not self.classes:
            raise ModelError(f"{self.path}: a {self.manifest.target.kind} model has no classes")
        return inference.decide(self.manifest.target, self.predict(data, names))

    def contributions(self, data: Any, names: Sequence[str] | None = None) -> np.ndarray:
        """(rows, features + 1) float32, multi-class (rows, classes, features + 1): SHAP values of the margin.

        The last column is the bias; a row's values add up to its margin.  `data`, `names`: as in `predict`.
        """
        return inference.contributions(self, inference.features(self, data, names))

    @property
    def booster(self) -> Any:
        """The xgboost.Booster, created on first use."""
        return self._made("_booster", self.threads)

    def threads_for(self, rows: int) -> int:
        """The number of threads for predicting this many rows; 0: all cores."""
        return 1 if rows < inference.FEW_ROWS else self.threads

    def booster_for(self, rows: int) -> Any:
        """The booster for this many rows: a thread count cannot be changed afterwards (see `inference.make_booster`)."""
        return self.booster if self.threads_for(rows) == self.threads else self._made("_single_booster", 1)

    def _made(self, name: str, threads: int) -> Any:
        known = self.__dict__.get(name)
        if known is None:
            known = inference.make_booster(self.booster_bytes, threads)
            object.__setattr__(self, name, known)
        return known

    def __repr__(self) -> str:
        target = self.manifest.target
        best = f"{self.manifest.best_round} rounds, {len(self.manifest.features)} features"
        return f"<Model {self.path}: {target.objective} for {target.column}, {best}>"

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_booster", "_single_booster")}


def as_model(model: object) -> Model:
    """The model, or the model loaded from the given folder; ModelError for anything else."""
    if isinstance(model, Model):
        return model
    if isinstance(model, (str, os.PathLike)):
        return Model.load(model)
    hint = ": pass its .model" if isinstance(getattr(model, "model", None), Model) else ""
    raise ModelError(f"expected a Model or the path of a model folder, got {type(model).__name__}{hint}")


def _check_path(path: object) -> None:
    """ModelError for a value that is no path."""
    if isinstance(path, (str, os.PathLike)):
        return
    known = isinstance(path, Model) or isinstance(getattr(path, "model", None), Model)
    hint = ": it holds the model already" if known else ""
    raise ModelError(
        f'Model.load takes the path of a model folder, e.g. Model.load("models/late"), not {type(path).__name__}{hint}'
    )


def _read_parts(path: Any, manifest: Manifest, contents: Mapping[str, bytes]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe and the metrics; ModelError where they do not fit the manifest: valid hashes do not prove the origin."""
    try:
        recipe = Recipe.from_json(contents[RECIPE].decode("utf-8"))
        metrics = json.loads(contents[METRICS])
        schema_of(manifest.columns)
        CsvOptions.model_validate(manifest.job["data"]["csv"])
        numbers = [manifest.job["data"]["fragment_mib"], manifest.job["training"]["seed"], *manifest.quantiles]
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: damaged: its files cannot be read together ({type(error).__name__})") from None
    derivation, roles = manifest.derivation, manifest.roles
    raw = {column.name for column in manifest.columns}
    named = {name for name in (manifest.target.column, roles.weight, roles.group) if name is not None}
    fits = (
        isinstance(metrics, dict)
        and recipe.names == tuple(feature.name for feature in manifest.features)
        and recipe.kinds == tuple(feature.type for feature in manifest.features)
        and recipe.columns == manifest.roles.features
        and set(manifest.inputs) <= raw
        and (derivation.function is not None or named <= {*raw, *dict(derivation.derive)})
        and (derivation.function is not None or set(recipe.columns) <= {*manifest.inputs, *dict(derivation.derive)})
        and all(type(number) in (int, float) and number >= 0 for number in numbers)
    )
    if not fits:
        raise ModelError(f"{path}: damaged: its manifest, recipe and metrics are not of one model")
    return recipe, metrics
