"""Writes MODEL_CARD.md: the model's purpose, data, metrics and unknowns."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.metric_registry import title_of
from pipeline.model.manifest import Manifest
from pipeline.reports.data import number, plain

MOST_NAMED = 40  # columns listed by name

_WHATS = {
    "binary": "the probability of one of two classes",
    "multiclass": "the probability of each of {n} classes",
    "regression": "a number",
    "ranking": "a score that orders the rows of a query",
}


def card(manifest: Manifest, metrics: Mapping[str, Mapping[str, Any]], importance: Sequence[str] = ()) -> str:
    """The card in Markdown; `metrics` by use, `importance` the features that matter most, first first."""
    target = manifest.target
    lines = [f"# Model of {_safe(target.column)}", "", *_what(manifest), ""]
    lines += ["## How good it is", "", *_metrics(metrics), ""]
    if importance:
        lines += ["Features that matter most, by gain: " + ", ".join(map(_safe, importance[:10])) + ".", ""]
    lines += ["## What it was made of", "", *_data(manifest), ""]
    lines += ["## What to know before using it", "", *_limits(manifest, metrics), ""]
    lines += ["## How to use it", "", "```", "pipeline predict MODEL_FOLDER NEW_DATA --out PREDICTIONS", "```", ""]
    return "\n".join(lines)


def _what(manifest: Manifest) -> list[str]:
    target = manifest.target
    what = _WHATS[target.kind].format(n=len(target.classes))
    lines = [f"Boosted trees (XGBoost, `{target.objective}`) that predict {what}, made on {manifest.created}."]
    if target.kind == "binary":
        lines.append(
            f"The positive class is {_safe(target.classes[1])}; a row is called that above a probability of 0.5."
        )
    kept = f"It keeps {manifest.best_round:,} of the {manifest.rounds:,} rounds it was trained for"
    why = ": the later ones did not better the validation metric." if manifest.best_round < manifest.rounds else "."
    return [*lines, kept + why]


def _metrics(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    uses = [use for use in ("train", "validation") if metrics.get(use)]
    names = dict.fromkeys(
        name for use in uses for name, value in metrics[use].items() if isinstance(value, (int, float))
    )
    if not names:
        return ["Nothing was measured."]
    rows = [f"| | {' | '.join(uses)} |", f"|---|{'---:|' * len(uses)}"]
    for name in names:
        values = (metrics[use].get(name) for use in uses)
        shown = (number(value) if isinstance(value, (int, float)) else "–" for value in values)
        rows.append(f"| {title_of(name)} | {' | '.join(shown)} |")
    return rows


def _data(manifest: Manifest) -> list[str]:
    rows = [f"{manifest.rows[use]:,} {use} rows" for use in ("train", "validation") if manifest.rows.get(use)]
    source = manifest.job["data"]["source"]
    named = ", ".join(_safe(part) for part in (source if isinstance(source, list) else [source])[:5])
    lines = [f"- Data: {named} ({' and '.join(rows)}; fingerprint `{manifest.fingerprint[:16]}`)."]
    dropped = manifest.rows.get("dropped") or {}
    if dropped:
        lines.append(
            "- Rows left out: " + ", ".join(f"{count:,} ({_safe(reason)})" for reason, count in dropped.items()) + "."
        )
    if manifest.derivation.where:
        lines.append(
            f"- Only rows with `{plain(manifest.derivation.where)}` trained and were evaluated.".replace("``", "` `")
        )
    if manifest.roles.weight:
        lines.append(f"- Rows weigh as {_safe(manifest.roles.weight)} says; so do the metrics.")
    names = [column.name for column in manifest.needed]
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    lines.append(f"- It reads {len(names):,} columns: {', '.join(map(_safe, names[:MOST_NAMED]))}{more}.")
    lines += [f"- {_safe(note, 400)}" for note in manifest.notes]
    made = ", ".join(f"{_safe(name)} {_safe(version)}" for name, version in manifest.versions.items())
    return [*lines, f"- Made with {made}; seed {manifest.job['training']['seed']}."]


def _limits(manifest: Manifest, metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    if not metrics.get("validation"):
        lines.append(
            "- No rows were held out: the numbers above are of the rows it learned from and say little about new ones."
        )
    elif manifest.rounds > manifest.best_round:
        lines.append("- The validation rows also chose the number of rounds, so their metrics are slightly too good.")
    validation = manifest.job["data"]["validation"] or {}
    if metrics.get("validation") and validation.get("share") and not validation.get("time"):
        lines.append("- The validation rows were drawn at random: how it does on later data was not measured.")
    return [
        *lines,
        "- It knows what the data above show; nothing was tested for fairness between groups of people or for drift.",
        "- Levels of categories that training did not see count as missing, or as average where levels are encoded as numbers.",
        "- `manifest.json` has the job with every setting, and the SHA-256 of each file in this folder.",
    ]


def _safe(value: object, longest: int = 120) -> str:
    """A text from outside that neither Markdown nor HTML interprets."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&])", r"\\\1", plain(value, longest))
