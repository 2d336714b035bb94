"""Decides whether a checkpoint belongs to the training that wants to resume from it.

Resolved settings are compared, not the words of the job: a parameter that a job does not name counts as its default, and
one that a checkpoint of an earlier version lacks as what that version used (`later_fields.py`).
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.job import Job
from pipeline.config.parameters import QUANTILE_OBJECTIVE
from pipeline.preprocess import category_splits
from pipeline.training.later_fields import PARAMS, field_value

if TYPE_CHECKING:
    from pipeline.training.trainer import Trainer

MOST_FILES = 10_000  # whose digests a checkpoint holds: about 1 MB
OBJECTIVE = "training.objective"
CATEGORY_THRESHOLD = f"{PARAMS}.{category_splits.PARAMETER}"  # the rows decide it where the job does not
NAMED = 5  # files of each kind that a message names
# Fields of the job that may differ: they do not change the model, or only its number of rounds.
FREE = frozenset(
    {
        "data.source", "data.validation.source",  # files may have moved: their fingerprint identifies them
        "data.strict", "training.rounds", "training.timeout_seconds", "training.checkpoint_rounds", "training.checkpoint_seconds",
        "training.max_restarts", "training.matrix", "training.row_order",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to: training resumes from it only if all of this is the same."""

    job: Mapping[str, Any]  # data, preprocess and training as resolved, without FREE fields: dotted path -> value
    data: tuple[str, ...]  # fingerprints of the sources
    device: str
    trainer: str
    versions: Mapping[str, str]  # of the trainer's packages
    features: str = ""  # hash of recipe and cuts; empty until both exist
    files: tuple[Mapping[str, str], ...] = ()  # of each source: file -> digest; to name the files that differ

    @classmethod
    def of(
        cls,
        job: Job,
        data: tuple[str, ...],
        device: str,
        trainer: "Trainer[Any]",
        files: tuple[Mapping[str, str], ...] = (),
        most_files: int = MOST_FILES,
    ) -> "Identity":
        """Builds the identity of a training; keeps no digests of sources with very many files."""
        fields = job.model_dump(mode="json", include={"data", "preprocess", "training"})
        decisive = {path: value for path, value in _flat(fields).items() if path not in FREE and not _is_param(path)}
        decisive |= {f"{PARAMS}.{name}": value for name, value in trainer.resolved(job.training).items()}
        kept = files if sum(map(len, files)) <= most_files else ()
        return cls(decisive, data, device, trainer.name, dict(trainer.versions()), files=kept)

    def with_features(
        self, objective: str, recipe: str, cuts: Iterable[np.ndarray], params: Mapping[str, Any]
    ) -> "Identity":
        """Returns the identity with what the rows decided: the objective, the recipe (JSON), every feature's cuts, and
        parameters of the trainer.
        """
        digest = hashlib.sha256(recipe.encode())
        for points in cuts:
            digest.update(len(points).to_bytes(8, "big") + points.tobytes())
        decided = {
            OBJECTIVE: objective,
            CATEGORY_THRESHOLD: params.get(category_splits.PARAMETER, category_splits.MOST_LEVELS),
        }
        return dataclasses.replace(self, job={**self.job, **decided}, features=digest.hexdigest())

    def differences(self, now: "Identity") -> list[str]:
        """Describes each difference as text; empty if training can resume."""
        found = []
        paths = {*self.job, *now.job}
        if QUANTILE_OBJECTIVE not in (self.job.get(OBJECTIVE), now.job.get(OBJECTIVE)):
            paths.discard("training.quantiles")  # earlier versions took and ignored them
        # What "auto" becomes is known once the features are; format 1 did not write it.
        if (self if now.features else now).job.get(OBJECTIVE) == "auto":
            paths.discard(OBJECTIVE)
        if not now.features and CATEGORY_THRESHOLD not in now.job:
            paths.discard(CATEGORY_THRESHOLD)
        for path in sorted(paths):
            before, after = field_value(self.job, path), now.job.get(path)
            if before != after and not (_unset(before) and _unset(after)) and not _told_below(path, self.job, now.job):
                found.append(f"{path} was {_short(before)}, now {_short(after)}")
        if self.data != now.data:
            found.append(f"the data differ: {_changes(self.files, now.files)}")
        was, is_now = ({"device": one.device, "trainer": one.trainer, **one.versions} for one in (self, now))
        found += [
            f"{name} was {was.get(name, 'none')}, now {is_now.get(name, 'none')}"
            for name in {**was, **is_now}
            if was.get(name) != is_now.get(name)
        ]
        if not found and self.features and now.features and self.features != now.features:
            found.append("the same job and data led to other features or cut points: another version of this program?")
        return found


def _is_param(path: str) -> bool:
    return path == PARAMS or path.startswith(f"{PARAMS}.")


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
