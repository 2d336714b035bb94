"""Text for people: what a run came to, what a job may say, what a machine offers."""

import functools
import json
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pydantic

from pipeline.config.problems import sections_in
from pipeline.efficiency.account import sentence
from pipeline.efficiency.advice import largest_loss
from pipeline.formatting import escaped


@dataclass(frozen=True)
class JobField:
    """One field of the job, for `--help`, `--fields` and the README."""

    default: str  # as TOML writes it; "none" where nothing is set, "required" where something must be
    description: str


@functools.cache
def job_fields() -> Mapping[str, JobField]:
    """Every field of the job by its path, e.g. "training.rounds", in the order of job.py."""
    from pipeline.config.job import Job

    return dict(_fields(Job, ""))


def fields_text() -> str:
    """What `pipeline train --fields` prints."""
    lines = ["Every field of a job, with its default; in a job file, or with --set FIELD=VALUE.", ""]
    lines += aligned([(name, field.default, field.description) for name, field in job_fields().items()])
    return "\n".join(lines)


def aligned(rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """The rows as lines whose columns line up; the columns numbered in `right` end together.

    >>> aligned([("rows", "9"), ("features", "28")], right=[1])
    ['rows       9', 'features  28']
    """
    rows, right = [[escaped(cell) for cell in row] for row in rows], set(right)
    columns = max(map(len, rows), default=0)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(columns)]
    return [
        "  ".join(
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]  # fmt: skip


def metrics_text(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Metrics as rows, data sets ("train", "validation") as columns; what is not a number is left to --json."""
    sets = [name for name, values in metrics.items() if values]
    names = dict.fromkeys(
        name for of in sets for name, value in metrics[of].items() if isinstance(value, (int, float))
    )  # fmt: skip
    header = [["", *sets]] if any(sets) else []
    rows = [[name, *(number(metrics[of].get(name)) for of in sets)] for name in names]
    return "\n".join(aligned([*header, *rows], right=range(1, len(sets) + 1)))


def training_text(summary: Mapping[str, Any]) -> str:
    """The table at the end of `pipeline train`: metrics, rows, seconds, memory, and where the model is."""
    rows, seconds = summary["rows"], summary["seconds"]
    dropped = ", ".join(f"{number(count)} {reason}" for reason, count in rows["dropped"].items() if count)
    best = f", best {number(summary['best_round'])}" if summary["best_round"] < summary["rounds"] else ""
    facts = [
        ("rows", f"{number(rows['train'])} train, {number(rows['validation'])} validation"),
        *([("dropped", dropped)] if dropped else []),
        ("features", number(summary["features"])),
        ("rounds", number(summary["rounds"]) + best),
        ("workers", f"{summary['workers']} x {summary['threads']} threads on {summary['device']}"),
        ("seconds", ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items())),
        ("memory", f"{nbytes(summary['peak_memory_nbytes'])} at the peak, {summary['peak_memory_of']}"),
        *[("interrupted" if not place else "", line) for place, line in enumerate(summary["incidents"])],
        ("model", str(summary["model"])),
        *([("report", str(summary["report"]))] if summary.get("report") else []),
    ]
    account = [sentence(summary["account"])]
    if (loss := largest_loss(summary["account"])) is not None:
        account.append(loss)
    return "\n".join([metrics_text(summary["metrics"]), "", *aligned(facts), "", *account])


def doctor_text(checks: Mapping[str, Any]) -> str:
    """What `pipeline doctor` says."""
    from pipeline.cluster.doctor import lines

    return "\n".join(aligned(lines(checks)))


def number(value: Any) -> str:
    """A number as people read it: 336,776 or 0.54131; "-" where there is none."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.5g}"


def nbytes(value: float) -> str:
    """
    >>> nbytes(1_080_000_000)
    '1.08 GB'
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} bytes"


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
