"""Writes and reads checkpoints: the state of a training after a round, in files that are either whole or absent.

A file is a line with the format's name and version, a line with the SHA-256 of all that follows, the length of the
header (8 bytes, big-endian), the header (JSON), the booster (UBJSON), and perhaps that of the best round.  Nothing in
it is ever executed, and XGBoost sees no byte before the hash has been checked.

    models/late                                      the future model folder
    models/late.checkpoints/round-000137.checkpoint  next to it, the last two
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.limited_file import read_limited
from pipeline.config.parameters import QUANTILE_OBJECTIVE
from pipeline.errors import ModelError
from pipeline.storage.atomic import refusal, sync
from pipeline.training.later_fields import field_value

MAGIC = b"pipeline-checkpoint 1\n"
KEPT = 2  # checkpoints: if one is damaged, the one before is used
LARGEST_NBYTES = 4 << 30
MOST_FILES = 10_000  # whose digests a checkpoint holds: about 1 MB
NAMED = 5  # files of each kind that a message names
SUFFIX = ".checkpoints"
_NAME = re.compile(r"round-(\d{6,})\.checkpoint")
_PARTIAL = ".checkpoint.partial"
# Fields of the job that may differ: they do not change the model, or only its number of rounds.
FREE = frozenset(
    {
        "data.source", "data.validation.source",  # files may have moved: their fingerprint identifies them
        "data.strict", "training.rounds", "training.timeout_seconds", "training.checkpoint_rounds", "training.checkpoint_seconds",
        "training.max_restarts", "training.matrix",
    }
)  # fmt: skip


@dataclass(frozen=True)
class State:
    """State of a training after a round: all that the next round depends on; seed and round decide what is random."""

    round: int  # rounds boosted so far
    booster: bytes = field(repr=False)  # UBJSON, with all rounds
    history: Mapping[str, list[float]]  # "validation.auc" -> a value per round, NaN where not measured
    round_seconds: list[float]
    best_round: int  # of early stopping
    best: float  # the deciding metric in that round
    stopped: bool = False  # whether early stopping has ended the training
    best_booster: bytes = field(repr=False, default=b"")  # of the best round, if `booster` does not contain it (dart)


@dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to: training resumes from it only if all of this is the same."""

    job: Mapping[str, Any]  # data, preprocess and training, without FREE fields: dotted path -> value
    data: tuple[str, ...]  # fingerprints of the sources
    device: str
    xgboost: str  # version
    features: str = ""  # hash of recipe and cuts; empty until both exist
    files: tuple[Mapping[str, str], ...] = ()  # of each source: file -> digest; to name the files that differ

    @classmethod
    def of(
        cls,
        job: Mapping[str, Any],
        data: tuple[str, ...],
        device: str,
        versions: Mapping[str, str],
        files: tuple[Mapping[str, str], ...] = (),
        most_files: int = MOST_FILES,
    ) -> "Identity":
        """Builds the identity from `Job.model_dump(mode="json")`; keeps no digests of sources with very many files."""
        sections = {name: job[name] for name in ("data", "preprocess", "training")}
        decisive = {path: value for path, value in _flat(sections).items() if path not in FREE}
        kept = files if sum(map(len, files)) <= most_files else ()
        return cls(decisive, data, device, versions["xgboost"], files=kept)

    def with_features(self, recipe: str, cuts: Iterable[np.ndarray]) -> "Identity":
        """Returns the identity with the hash of the recipe (JSON) and of every feature's cut points."""
        digest = hashlib.sha256(recipe.encode())
        for points in cuts:
            digest.update(len(points).to_bytes(8, "big") + points.tobytes())
        return dataclasses.replace(self, features=digest.hexdigest())

    def differences(self, now: "Identity") -> list[str]:
        """Describes each difference as text; empty if training can resume."""
        found = []
        paths = {*self.job, *now.job}
        if QUANTILE_OBJECTIVE not in (self.job.get("training.objective"), now.job.get("training.objective")):
            paths.discard("training.quantiles")  # earlier versions took and ignored them
        for path in sorted(paths):
            then, today = field_value(self.job, path), now.job.get(path)
            if then != today and not (_unset(then) and _unset(today)) and not _told_below(path, self.job, now.job):
                found.append(f"{path} was {_short(then)}, now {_short(today)}")
        if self.data != now.data:
            found.append(f"the data differ: {_changes(self.files, now.files)}")
        for name in ("device", "xgboost"):
            if getattr(self, name) != getattr(now, name):
                found.append(f"{name} was {getattr(self, name)}, now {getattr(now, name)}")
        if not found and self.features and now.features and self.features != now.features:
            found.append("the same job and data led to other features or cut points: another version of this program?")
        return found


def _unset(value: Any) -> bool:
    """Whether a value is that of an unset optional field, or an empty list or table."""
    return value is None or value in ([], {})


def _told_below(path: str, *jobs: Mapping[str, Any]) -> bool:
    """Whether the fields below a path show its difference, because one of the jobs has a table there.

    >>> _told_below("training.params", {"training.params": {}}, {"training.params.max_depth": 3})
    True
    >>> _told_below("training.class_weights", {"training.class_weights": "balanced"}, {"training.class_weights.yes": 2.0})
    False
    """
    table = any(name.startswith(f"{path}.") for job in jobs for name in job)
    return table and all(_unset(job.get(path)) for job in jobs)


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Flattens a nested mapping to dotted paths."""
    if not isinstance(value, Mapping) or not value:
        return {path: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{path}.{key}" if path else str(key))
    return flat


def _changes(then: Sequence[Mapping[str, str]], now: Sequence[Mapping[str, str]]) -> str:
    """Names the files that differ, as far as known.

    >>> _changes([{"a.csv": "1", "b.csv": "2"}], [{"a.csv": "9", "c.csv": "3"}])
    'changed: a.csv; removed: b.csv; added: c.csv'
    """
    changed, removed, added = [], [], []
    for before, today in zip(then, now, strict=False):
        changed += sorted(name for name in before.keys() & today.keys() if before[name] != today[name])
        removed += sorted(before.keys() - today.keys())
        added += sorted(today.keys() - before.keys())
    kinds = {"changed": changed, "removed": removed, "added": added}
    return "; ".join(f"{kind}: {_first(names)}" for kind, names in kinds.items() if names) or (
        "files were changed, added or removed"
    )


def _first(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _short(value: Any) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


_BYTES = ("booster", "best_booster")  # fields of the state that follow the header


def encode(state: State, identity: Identity) -> bytes:
    """Returns the content of a checkpoint file."""
    header = {
        "state": {
            item.name: getattr(state, item.name) for item in dataclasses.fields(State) if item.name not in _BYTES
        },
        "booster_nbytes": len(state.booster),
        "identity": dataclasses.asdict(identity),
    }
    text = json.dumps(header).encode()
    body = len(text).to_bytes(8, "big") + text + state.booster + state.best_booster
    return MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def decode(content: bytes) -> tuple[State, Identity]:
    """Returns what `encode` was given.  ModelError, which does not name the file, for any other content."""
    start = len(MAGIC) + 65
    if not content.startswith(MAGIC):
        raise ModelError("not a checkpoint of this version")
    body = content[start:]
    if content[len(MAGIC) : start] != hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise ModelError("damaged: its SHA-256 is not the one it was written with")
    try:
        size = int.from_bytes(body[:8], "big")
        header = json.loads(body[8 : 8 + size])
        boosters = body[8 + size :]
        nbytes = int(header.get("booster_nbytes", len(boosters)))  # earlier versions wrote one booster only
        if not 0 < nbytes <= len(boosters):
            raise ValueError("booster_nbytes")
        state = State(booster=boosters[:nbytes], best_booster=boosters[nbytes:], **header["state"])
        said = header["identity"]
        identity = Identity(**{**said, "data": tuple(said["data"]), "files": tuple(said.get("files", ()))})
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"damaged: {type(error).__name__}") from None
    if not _sensible(state, identity):
        raise ModelError("damaged: its fields do not fit together")
    return state, identity


def _sensible(state: State, identity: Identity) -> bool:
    """Checks the values: a file with a correct hash may still have been written by other software."""
    numbers = (state.round, state.best_round)
    return (
        all(type(number) is int and number >= 0 for number in numbers)
        and state.best_round <= state.round
        and type(state.best) in (int, float)
        and type(state.stopped) is bool
        and isinstance(state.history, dict)
        and all(_numbers(series) and len(series) <= state.round for series in state.history.values())
        and _numbers(state.round_seconds)
        and len(state.round_seconds) == state.round
        and isinstance(identity.job, dict)
        and all(map(_text, (*identity.data, identity.device, identity.xgboost, identity.features)))
        and all(isinstance(names, dict) and all(map(_text, names.values())) for names in identity.files)
        and bool(state.booster)
    )


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) in (int, float) for value in values)


def folder_for(model: Path) -> Path:
    """Returns the folder of the checkpoints of a model folder, which need not exist yet."""
    return model.with_name(model.name + SUFFIX)


class CheckpointStore:
    """The checkpoints of one model folder, which need not exist yet."""

    def __init__(self, model: Path, sync: Callable[[Path], None] = sync) -> None:
        self.model, self._sync = model, sync
        self.folder = folder_for(model)

    def rounds(self) -> list[int]:
        """Returns the rounds that have a file, latest first; the files may be damaged."""
        try:
            names = os.listdir(self.folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted((int(match[1]) for match in map(_NAME.fullmatch, names) if match), reverse=True)

    def path(self, number: int) -> Path:
        return self.folder / f"round-{number:06d}.checkpoint"

    def write(self, state: State, identity: Identity) -> Path:
        """Writes a checkpoint, whole or not at all, and removes all but the last two.  OSError, with the reason.

        Files of later rounds must be damaged, or training would have resumed from them: they do not count among the
        two, and are removed too.
        """
        first = not self.rounds()  # the folder is new, or holds only this run's lock
        content = encode(state, identity)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(state.round)
        partial = path.with_name(path.name.removesuffix(".checkpoint") + _PARTIAL)
        try:
            with open(partial, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            reason = refusal(error, self.folder, len(content))
            with contextlib.suppress(OSError):
                self.folder.rmdir()  # if it was made for this checkpoint
            raise OSError(error.errno, reason) from error
        self._sync(self.folder)
        if first:
            self._sync(self.folder.parent)
        later = [number for number in self.rounds() if number > state.round]
        earlier = [number for number in self.rounds() if number < state.round]
        for number in later + earlier[KEPT - 1 :]:
            with contextlib.suppress(OSError):
                self.path(number).unlink()
        return path

    def read(self, number: int) -> tuple[State, Identity]:
        """Reads the checkpoint of a round.  ModelError names the file if it is damaged or cannot be read."""
        path = self.path(number)
        content = read_limited(path, LARGEST_NBYTES, "a checkpoint", ModelError, MAGIC)
        try:
            return decode(content)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None

    def latest(self) -> tuple[State, Identity, list[str]]:
        """Returns the latest whole checkpoint, and what is wrong with later ones.  ModelError if there is none."""
        wrong: list[str] = []
        for number in self.rounds():
            try:
                return *self.read(number), wrong
            except ModelError as error:
                wrong.append(str(error))
        if wrong:
            raise ModelError(f"no checkpoint is whole: {'; '.join(wrong)}")
        raise ModelError(f"{self.model}: nothing to resume: no checkpoint in {self.folder}")

    def remove(self) -> str | None:
        """Removes the checkpoints, and their folder if it is then empty; returns why some are left, None if none is."""
        reason: str | None = None
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            return error.strerror or str(error)
        for name in names:
            if _NAME.fullmatch(name) or name.endswith(_PARTIAL):
                try:
                    (self.folder / name).unlink(missing_ok=True)
                except OSError as error:
                    reason = error.strerror or str(error)
        with contextlib.suppress(OSError):
            self.folder.rmdir()
        return reason
