"""Defines manifest.json: the files of a model folder, the origin of the model, and the inputs of a prediction."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.records import from_json
from pipeline.config.xgboost import quantiles_of
from pipeline.data.schema.derive import NO_DERIVATION, Derivation
from pipeline.data.schema.roles import Roles
from pipeline.data.schema.target import Target
from pipeline.errors import ModelError

FORMAT_VERSION = 3  # 2 is still read: it had no trainer; 1 had no hash of the manifest itself
XGBOOST = "xgboost"  # the trainer of every model of version 2


@dataclass(frozen=True)
class NamedType:
    """A raw column with its Arrow type ("int64"), or a feature with XGBoost's ("q", "c")."""

    name: str
    type: str


@dataclass(frozen=True)
class FileEntry:
    """The expected size and hash of a file of the folder."""

    sha256: str
    size: int  # bytes


@dataclass(frozen=True)
class Manifest:
    """The metadata of a model other than its trees and its recipe."""

    target: Target
    roles: Roles  # features: the columns the recipe uses; read, predict: what that takes, without the validation column
    columns: tuple[NamedType, ...]  # raw columns that evaluation or prediction read
    inputs: tuple[str, ...]  # those from which the features are made
    features: tuple[NamedType, ...]  # the columns that XGBoost gets, in its order
    rounds: int  # boosted
    best_round: int  # the number of rounds kept in the model
    rows: dict[str, Any]  # train, validation: rows; dropped: reason -> rows
    fingerprint: str  # of the training data
    job: dict[str, Any]  # with all defaults
    versions: dict[str, str]
    created: str  # ISO 8601, UTC
    derivation: Derivation = NO_DERIVATION
    function_sha256: str | None = None  # of the source file of derivation.function
    notes: tuple[str, ...] = ()
    trainer: str = XGBOOST  # that made model.ubj
    files: dict[str, FileEntry] = field(default_factory=dict)

    @property
    def needed(self) -> tuple[NamedType, ...]:
        """The raw columns from which the features are made: a prediction needs them in addition to ids."""
        return self.named(self.inputs)

    @property
    def copied(self) -> frozenset[str]:
        """The id columns that are no input of a feature: a prediction copies them unchanged."""
        return frozenset(self.roles.id) - {*self.inputs, *self.roles.read}

    def named(self, names: Collection[str]) -> tuple[NamedType, ...]:
        """The raw columns of these names, with their types."""
        wanted = frozenset(names)
        return tuple(column for column in self.columns if column.name in wanted)

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The quantiles that reg:quantileerror predicts, in the order of its outputs; empty for other objectives."""
        return quantiles_of(self.target.objective, self.job["training"]["quantiles"])

    def render(self) -> bytes:
        """The text of manifest.json: the same bytes for equal manifests, including a hash of all the rest.

        So any changed byte is detected, although no other file holds this file's hash.
        """
        return self.render_version(FORMAT_VERSION)

    def render_version(self, version: int) -> bytes:
        """The text that a program of this version writes."""
        document = {"format_version": version, "sha256": "", **_plain(dataclasses.asdict(self))}
        document["derivation"].pop("allow_code")  # consent is given on each call, never taken from a file
        if version < 3:
            document.pop("trainer")
        document["sha256"] = hashlib.sha256(_text(document)).hexdigest()
        return _text(document)

    @classmethod
    def parse(cls, content: bytes, origin: str) -> "Manifest":
        """The manifest in a file's bytes; ModelError (naming `origin`) for a newer format or invalid content.

        A file of version 2 is compared with what a program of that version writes, and read as one of this version.
        """
        try:
            document = json.loads(content.decode("utf-8"))
            version = document.pop("format_version")
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
            raise ModelError(f"{origin}: not a readable manifest") from None
        if type(version) is not int or version < 1:
            raise ModelError(f"{origin}: not a readable manifest")
        if version not in (2, FORMAT_VERSION):
            advice = "install a newer release" if version > FORMAT_VERSION else "train the model again"
            raise ModelError(f"{origin}: format version {version}, this program reads {FORMAT_VERSION}: {advice}")
        document.pop("sha256", None)  # rendered again below, and compared with the whole
        try:
            manifest = from_json(cls, document)
        except (TypeError, ValueError):
            raise ModelError(f"{origin}: damaged: its fields are not a manifest's") from None
        if manifest.render_version(version) != content:
            raise ModelError(f"{origin}: damaged: not as it was written")
        return manifest


def dump(document: Any) -> bytes:
    """Indented JSON in UTF-8; numbers that JSON does not have (NaN, infinity) become null."""
    return _text(_plain(document))


def _text(document: Any) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


_AS_THEY_ARE = frozenset({str, int, bool})


def _plain(value: Any) -> Any:
    """The value converted for JSON."""
    if value is None or type(value) in _AS_THEY_ARE:  # most values of a manifest of many features: at once
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
