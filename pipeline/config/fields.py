"""Lists the fields of a job for `--help`, `--fields` and the README."""

import functools
import json
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic

from pipeline.config.validation_messages import sections_in


@dataclass(frozen=True)
class JobField:
    """One field of the job, for `--help`, `--fields` and the README."""

    default: str  # as TOML writes it; "none" if unset, "required" if it must be set
    description: str


@functools.cache
def job_fields() -> Mapping[str, JobField]:
    """Every field of the job by its path, e.g. "training.rounds", in the order of `config.job`."""
    from pipeline.config.job import Job

    return dict(_fields(Job, ""))


def _fields(section: type[pydantic.BaseModel], path: str) -> Iterator[tuple[str, JobField]]:
    for name, field in section.model_fields.items():
        below = sections_in(field.annotation)
        origin = typing.get_origin(field.annotation)
        each = ".NAME" if origin is dict else "[]" if origin is list else ""
        for kind in below:
            yield from _fields(kind, f"{path}{name}{each}.")
        if not below or any(typing.get_origin(part) is typing.Literal for part in typing.get_args(field.annotation)):
            yield path + name, JobField(_default(field), field.description or "")


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    return "none" if field.default is None else json.dumps(field.default, ensure_ascii=False)
