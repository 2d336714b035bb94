"""Assembles the manifest of a model that has just been trained."""

import dataclasses
import importlib.metadata
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.config.job import Job, storable
from pipeline.data.opened_sources import Inputs
from pipeline.data.schema.derive import check, function_sha256
from pipeline.data.schema.roles import Roles
from pipeline.data.schema.target import Target
from pipeline.events.findings import text_of
from pipeline.model.manifest import XGBOOST, Manifest, NamedType
from pipeline.model.schema import type_name
from pipeline.preprocess.recipe import Recipe

DISTRIBUTIONS = ("dask-train-pipeline", "xgboost", "dask", "distributed", "pyarrow", "numpy", "duckdb")


@dataclass(frozen=True)
class ManifestInput:
    """The results of the rounds that go into the manifest."""

    target: Target
    recipe: Recipe
    rounds: int  # boosted
    best_round: int  # the model's last round
    rows: Mapping[str, object]  # train, validation: rows; dropped: reason -> rows
    created: datetime
    trainer: str = XGBOOST
    notes: tuple[str, ...] = ()


def make_manifest(inputs: Inputs, job: Job, trained: ManifestInput) -> Manifest:
    """The manifest of a model; `save` fills in `files`."""
    recipe, schema = trained.recipe, inputs.training.schema
    derived = check(inputs.derivation, schema)

    def raw(names: Collection[str | None]) -> tuple[str, ...]:
        needed = derived.raw_inputs([name for name in names if name is not None])
        return tuple(name for name in schema.names if name in needed)

    roles = inputs.roles
    labelled = [*recipe.columns, trained.target.column, roles.weight, roles.group]
    read = set(raw(labelled)) | derived.where
    roles = Roles(
        features=recipe.columns,
        target=roles.target,
        weight=roles.weight,
        group=roles.group,
        id=roles.id,
        read=tuple(name for name in schema.names if name in read),
        predict=raw([*recipe.columns, *roles.id]),
        notes=tuple(map(text_of, roles.notes)),
    )
    kept = {*roles.read, *roles.predict}
    return Manifest(
        target=trained.target,
        roles=roles,
        columns=tuple(NamedType(field.name, type_name(field.type)) for field in schema if field.name in kept),
        inputs=raw(recipe.columns),
        features=tuple(NamedType(name, kind) for name, kind in zip(recipe.names, recipe.kinds, strict=True)),
        rounds=trained.rounds,
        best_round=trained.best_round,
        rows=dict(trained.rows),
        fingerprint=inputs.training.fingerprint,
        job=storable(job),
        versions=_versions(),
        created=trained.created.astimezone(UTC).isoformat(timespec="seconds"),
        derivation=dataclasses.replace(inputs.derivation, allow_code=False),
        function_sha256=function_sha256(inputs.derivation),
        notes=trained.notes,
        trainer=trained.trainer,
    )


def _versions() -> dict[str, str]:
    """Versions of Python, the system, and the packages that a model depends on."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # xgboost has several package names
            continue
    if "xgboost" not in found:
        import xgboost

        found["xgboost"] = xgboost.__version__
    return found
