"""Formats text for people: the outcome of a run, the fields of a job, the properties of a machine."""

from collections.abc import Mapping
from typing import Any

from pipeline.config.fields import job_fields
from pipeline.efficiency.account import sentence
from pipeline.efficiency.advice import largest_loss
from pipeline.formatting import aligned, nbytes, number


def fields_text() -> str:
    """The output of `pipeline train --fields`."""
    lines = ["Every field of a job, with its default; in a job file, or with --set FIELD=VALUE.", ""]
    lines += aligned([(name, field.default, field.description) for name, field in job_fields().items()])
    return "\n".join(lines)


def metrics_text(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Metrics as rows, data sets ("train", "validation") as columns; values other than numbers appear only with --json."""
    sets = [name for name, values in metrics.items() if values]
    names = dict.fromkeys(
        name for of in sets for name, value in metrics[of].items() if isinstance(value, (int, float))
    )  # fmt: skip
    header = [["", *sets]] if any(sets) else []
    rows = [[name, *(number(metrics[of].get(name)) for of in sets)] for name in names]
    return "\n".join(aligned([*header, *rows], right=range(1, len(sets) + 1)))


def training_text(summary: Mapping[str, Any]) -> str:
    """The table at the end of `pipeline train`: metrics, rows, seconds, memory, and the path of the model."""
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
    """The output of `pipeline doctor`."""
    from pipeline.run.doctor import lines

    return "\n".join(aligned(lines(checks)))
