"""Explains what is wrong with a job: the field's path, its value, what is allowed."""

import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pydantic

from pipeline.config.suggestions import suggestion

_LONGEST_VALUE = 80  # characters of a value that a message shows

# The expected values for pydantic's kinds of error.
_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "string_pattern_mismatch": "a text of another form",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "literal_error": "{expected}",
    "greater_than": "> {gt}",
    "greater_than_equal": ">= {ge}",
    "less_than": "< {lt}",
    "less_than_equal": "<= {le}",
    "too_long": "at most {max_length} values",
    "string_too_short": "at least {min_length} character",
    "string_too_long": "at most {max_length} character",
}
_WIDER = {"a whole number": "a number"}  # only the wider of the two is named


@dataclass(frozen=True)
class _Problem:
    """One of pydantic's errors, without the names it gives to the members of a union."""

    path: tuple[str | int, ...]
    of_union: bool  # one member of a union did not match: another may have been meant
    error: Any  # pydantic_core.ErrorDetails


@dataclass(frozen=True)
class Origins:
    """The origin of a job's values: a table, and settings that override it."""

    table: str  # the table's name in messages
    written: Mapping[str, Any]  # the table, without the settings
    settings: Sequence[tuple[tuple[str, ...], str]]  # path and option of each, e.g. (("training", "rounds"), "--set")

    def of(self, path: tuple[str | int, ...], *, missing: bool) -> str:
        """The name of the origin of the value at a path; the last setting wins.

        >>> origins = Origins("a.toml", {"data": {"csv": {}}}, [(("training", "rounds"), "--rounds"), (("data", "csv", "header"), "--set")])
        >>> [origins.of(path, missing=False) for path in (("training", "rounds"), ("training", "seed"), ("data", "csv"))]
        ['--rounds', 'a.toml', 'a.toml with --set']
        """
        for setting, option in reversed(self.settings):
            if path[: len(setting)] == setting:
                return option
            holder = path[:-1] if missing else path
            if holder and setting[: len(holder)] == holder:
                mixed = _contains(self.written, holder)
                if not (mixed and missing):  # the table should contain it
                    return f"{self.table} with {option}" if mixed else option
        return self.table


def explain(
    error: pydantic.ValidationError, table: Mapping[str, Any], job: type[pydantic.BaseModel], origins: Origins
) -> str:
    """All errors in the table of a job (a model of `job`), one message per place, after its origin."""
    problems = [_problem(item, table) for item in error.errors()]
    paths = [problem.path for problem in problems]
    by_path: dict[tuple[str | int, ...], list[_Problem]] = {}
    for problem in problems:
        deeper = (path for path in paths if len(path) > len(problem.path) and path[: len(problem.path)] == problem.path)
        if not (problem.of_union and any(deeper)):  # the error of the intended member is more specific
            by_path.setdefault(problem.path, []).append(problem)
    said: dict[str, list[str]] = {}
    for path, found in by_path.items():
        origin = origins.of(path, missing=found[0].error["type"] == "missing")
        said.setdefault(origin, []).append(_said(path, found, job))
    return "; ".join(f"{origin}: {'; '.join(texts)}" for origin, texts in said.items())


def show_path(path: Iterable[str | int]) -> str:
    """A place in a job as written in TOML: preprocess.columns."a.b".clip[1]."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            shown += f".{part}" if re.fullmatch(r"[\w*?-]+", part) else f'."{part}"'
    return shown.removeprefix(".")


def _problem(error: Any, table: Mapping[str, Any]) -> _Problem:
    """The error with the path that the user wrote: for a union pydantic inserts names of types."""
    path: list[str | int] = []
    of_union, value = False, typing.cast(Any, table)
    for place, part in enumerate(error["loc"]):
        last = place == len(error["loc"]) - 1
        if _has(value, part):
            value = value[part]
        elif not (last and error["type"] == "missing"):
            of_union = True
            continue
        path.append(part)
    return _Problem(tuple(path), of_union, error)


def _contains(value: Any, path: Iterable[str | int]) -> bool:
    """Whether a path leads to a value."""
    for part in path:
        if not _has(value, part):
            return False
        value = value[part]
    return True


def _has(value: Any, part: str | int) -> bool:
    """Whether a part of a path leads into this value."""
    if isinstance(part, int):
        return isinstance(value, list) and part < len(value)
    return isinstance(value, Mapping) and part in value


def _said(path: tuple[str | int, ...], problems: Sequence[_Problem], job: type[pydantic.BaseModel]) -> str:
    """The message for the errors at one place."""
    error = problems[0].error
    if error["type"] == "extra_forbidden":
        return f"unknown key {show_path(path)}{_hint(path, job)}"
    if error["type"] == "missing":
        return f"{show_path(path)} is missing"
    value = "" if isinstance(error["input"], Mapping) else f" = {_short(error['input'])}"
    if error["type"] == "value_error":
        return f"{show_path(path)}{value}: {error['ctx']['error']}"
    expected = list(dict.fromkeys(_expected(problem.error) for problem in problems))
    expected = [text for text in expected if _WIDER.get(text) not in expected]
    about = _description(path, job)
    return f"{show_path(path)}{value}: expected {' or '.join(expected)}{f' ({about})' if about else ''}"


def _expected(error: Any) -> str:
    template = _EXPECTED.get(error["type"])
    return str(error["msg"]) if template is None else template.format(**error.get("ctx", {}))


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes whole numbers of up to 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def _hint(path: Sequence[str | int], job: type[pydantic.BaseModel]) -> str:
    """Where the key belongs; or the nearest known key; or all keys."""
    key = str(path[-1])
    known = list(_section(path[:-1], job)[0].model_fields)
    sections = {name: sections_in(field.annotation) for name, field in job.model_fields.items()}
    if len(path) > 1 and sections.get(key) == []:
        return f"; did you mean {key}, above the first table?"
    homes = [name for name, kinds in sections.items() if kinds and key in kinds[0].model_fields]
    if homes:
        return f"; did you mean {homes[0]}.{key}?"
    return suggestion(key, known)


def _description(path: Sequence[str | int], job: type[pydantic.BaseModel]) -> str | None:
    """The job's description of the field at a path, or of the field that holds it."""
    return _section(path, job)[1]


def _section(path: Iterable[str | int], job: type[pydantic.BaseModel]) -> tuple[type[pydantic.BaseModel], str | None]:
    """(the innermost section a path leads into, the description of the last field it goes through)."""
    section, description = job, None
    for part in path:
        field = section.model_fields.get(str(part))
        if field is None:
            continue  # a key or an index inside a field
        description = field.description
        section = next(iter(sections_in(field.annotation)), section)
    return section, description


def sections_in(annotation: Any) -> list[type[pydantic.BaseModel]]:
    """The sections a field's type holds (`Validation | None` -> Validation; `dict[str, Column]` -> Column)."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        return [inner for part in typing.get_args(annotation) for inner in sections_in(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel) else []
