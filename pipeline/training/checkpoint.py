"""Writes and reads checkpoints: the state of a training after a round, in files that are either whole or absent.

A file is a line with the format's name and version, a line with the SHA-256 of all that follows, the length of the
header (8 bytes, big-endian), the header (JSON), and the content: the trainer's own bytes.  Nothing in it is ever
executed, and the trainer sees no byte before the hash has been checked.

    models/late                                      the future model folder
    models/late.checkpoints/round-000137.checkpoint  next to it, the last two
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config.limited_file import read_limited
from pipeline.errors import ModelError
from pipeline.storage.atomic import refusal, sync
from pipeline.training.identity import Identity
from pipeline.training.later_fields import under_one_name
from pipeline.training.state import State

FAMILY = b"pipeline-checkpoint "
MAGIC, MAGIC_1 = FAMILY + b"2\n", FAMILY + b"1\n"  # format 1 is still read
KEPT = 2  # checkpoints: if one is damaged, the one before is used
LARGEST_NBYTES = 4 << 30
SUFFIX = ".checkpoints"
_NAME = re.compile(r"round-(\d{6,})\.checkpoint")
_PARTIAL = ".checkpoint.partial"


def encode(state: State, identity: Identity) -> bytes:
    """Returns the content of a checkpoint file."""
    fields = {item.name: getattr(state, item.name) for item in dataclasses.fields(State) if item.name != "content"}
    header = json.dumps({"state": fields, "identity": dataclasses.asdict(identity)}).encode()
    body = len(header).to_bytes(8, "big") + header + state.content
    return MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def decode(content: bytes) -> tuple[State, Identity]:
    """Returns what `encode` was given.  ModelError, which does not name the file, for any other content."""
    magic = content[: len(MAGIC)]
    if magic not in (MAGIC, MAGIC_1):
        raise ModelError("not a checkpoint of this version or an earlier one")
    start = len(magic) + 65
    body = content[start:]
    if content[len(magic) : start] != hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise ModelError("damaged: its SHA-256 is not the one it was written with")
    try:
        size = int.from_bytes(body[:8], "big")
        header, own = json.loads(body[8 : 8 + size]), body[8 + size :]
        if magic == MAGIC_1:
            header, own = lifted(header, own)
        state, said = State(content=own, **header["state"]), header["identity"]
        identity = Identity(**{**said, "data": tuple(said["data"]), "files": tuple(said["files"])})
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"damaged: {type(error).__name__}") from None
    if not _sensible(state, identity):
        raise ModelError("damaged: its fields do not fit together")
    return state, identity


def lifted(header: dict[str, Any], boosters: bytes) -> tuple[dict[str, Any], bytes]:
    """Returns header and content of a checkpoint of format 1 as format 2 has them.

    Format 1 was XGBoost's alone: its version in place of the trainer's packages, the job's parameters as they were
    named, and the length of the booster in the header, which the trainer now keeps before the boosters itself.
    """
    said = dict(header["identity"])
    said |= {"trainer": "xgboost", "versions": {"xgboost": said.pop("xgboost")}, "job": under_one_name(said["job"])}
    nbytes = int(header.get("booster_nbytes", len(boosters)))  # the first versions wrote one booster only
    if not 0 < nbytes <= len(boosters):
        raise ValueError("booster_nbytes")
    return {"state": header["state"], "identity": {"files": (), **said}}, nbytes.to_bytes(8, "big") + boosters


def _sensible(state: State, identity: Identity) -> bool:
    """Checks the values: a file with a correct hash may still have been written by other software."""
    numbers = (state.round, state.best_round)
    texts = (*identity.data, identity.device, identity.trainer, identity.features)
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
        and all(map(_text, texts))
        and all(
            isinstance(named, dict) and all(map(_text, named.values()))
            for named in (identity.versions, *identity.files)
        )
        and bool(state.content)
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
        content = read_limited(path, LARGEST_NBYTES, "a checkpoint", ModelError, FAMILY)
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
