"""Writes summary, table and picture of the end-to-end benchmark."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import ALL, NOT_INSTALLED, Outcome

Summary = dict[str, dict[str, Any]]


def summarise(outcomes: Sequence[Outcome]) -> Summary:
    """Summarises by contender: medians of the costs over all its runs, the AUC's mean, and the seconds of its stages."""
    summary: Summary = {}
    for name in dict.fromkeys(outcome.contender for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.contender == name]
        good = [outcome for outcome in mine if outcome.error is None]
        if not good:
            summary[name] = {"runs": 0, "failed": len(mine), "error": mine[0].error}
            continue
        stages = dict.fromkeys(stage for outcome in good for stage in outcome.seconds)
        summary[name] = {
            "runs": len(good),
            "failed": len(mine) - len(good),
            "wall_seconds": statistics.median(outcome.wall_seconds for outcome in good),
            "cpu_seconds": statistics.median(outcome.cpu_seconds for outcome in good),
            "peak_pss_nbytes": statistics.median(outcome.peak_pss_nbytes for outcome in good),
            "peak_gpu_nbytes": statistics.median(outcome.peak_gpu_nbytes for outcome in good),
            "auc": statistics.fmean(outcome.auc for outcome in good if outcome.auc is not None),
            "stage_seconds": {
                stage: statistics.median(outcome.seconds.get(stage, 0.0) for outcome in good) for stage in stages
            },
        }
    return summary


def equal_quality(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Returns the seconds until the highest AUC that both reach, for this project and each LightGBM or CatBoost on the
    same data.

    All rounds are assumed to take equally long: seconds(k) = wall - rounds' seconds x (1 - k / rounds).
    """
    found = []
    for ours in (outcome for outcome in outcomes if outcome.contender.startswith("ours") and not outcome.error):
        for other in outcomes:
            if other.contender.startswith(("lightgbm", "catboost")) and not other.error and other.seed == ours.seed:
                level = min(max(score for _, score in run.auc_by_round) for run in (ours, other))
                found.append({
                    "against": other.contender, "seed": ours.seed, "auc": level,
                    "ours_seconds": _seconds_to(ours, level), "other_seconds": _seconds_to(other, level),
                })  # fmt: skip
    return found


def _seconds_to(outcome: Outcome, level: float) -> float:
    rounds = outcome.auc_by_round[-1][0]
    needed = next(count for count, score in outcome.auc_by_round if score >= level)
    return outcome.wall_seconds - outcome.seconds["rounds"] * (1 - needed / rounds)


def tabulate(record: Mapping[str, Any]) -> str:
    """Formats the summary as text; factors are against (a), or against the CuPy script."""
    summary: Summary = record["summary"]
    base = next((summary[name] for name in ("a", "cupy") if summary.get(name, {}).get("runs")), None)
    lines = [
        f"{'':36} {'runs':>4} {'wall s':>8} {'':>6} {'CPU s':>8} {'':>6} {'PSS GB':>7} {'':>6} {'AUC':>8}  stages, seconds"
    ]
    for name, row in summary.items():
        title = ALL[name].title
        if not row["runs"]:
            lines.append(f"{title:36} {row['error'] if row['error'] == NOT_INSTALLED else 'failed: ' + row['error']}")
            continue
        cells = [
            _cell(row, base, "wall_seconds", 8, 1),
            _cell(row, base, "cpu_seconds", 8, 1),
            _cell(row, base, "peak_pss_nbytes", 7, 1e9),
        ]
        stages = "  ".join(f"{stage} {value:.2f}" for stage, value in row["stage_seconds"].items())
        lines.append(f"{title:36} {row['runs']:4} {' '.join(cells)} {row['auc']:8.5f}  {stages}")
    lines += _auc_lines(summary, base)
    return "\n".join([*lines, *_quality_lines(record["equal_quality"]), *_gpu_lines(record)])


def _auc_lines(summary: Summary, base: Mapping[str, Any] | None) -> list[str]:
    """Returns the difference of this project's AUC to the hand-written script's, both averaged over the same seeds."""
    ours = [row for name, row in summary.items() if name.startswith("ours") and row["runs"]]
    return [f"AUC of this project minus that by hand: {row['auc'] - base['auc']:+.5f}" for row in ours if base]


READING = ("read", "to_gpu", "statistics", "blocks")  # the stages between a Parquet file and the GPU


def _gpu_lines(record: Mapping[str, Any]) -> list[str]:
    """Returns for each contender on a GPU: Parquet to GPU in GB/s of float32, its rounds, its memory and the floats' size."""
    settings, lines = record["settings"], []
    floats_nbytes = settings["rows"] * settings["features"] * 4
    for name, row in record["summary"].items():
        if not row["runs"] or ALL[name].device != "cuda":
            continue
        reading = sum(row["stage_seconds"].get(stage, 0.0) for stage in READING)
        lines.append(
            f"{ALL[name].title}: Parquet to GPU {floats_nbytes / 1e9 / reading:.2f} GB/s, rounds "
            f"{row['stage_seconds']['rounds']:.2f} s, GPU peak {row['peak_gpu_nbytes'] / 1e9:.2f} GB against "
            f"{floats_nbytes / 1e9:.2f} GB of float32"
        )
    return lines


def _cell(row: Mapping[str, Any], base: Mapping[str, Any] | None, key: str, width: int, unit: float) -> str:
    factor = f"{row[key] / base[key]:5.2f}x" if base else ""
    return f"{row[key] / unit:{width}.2f} {factor:>6}"


def _quality_lines(pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for against in dict.fromkeys(pair["against"] for pair in pairs):
        these = [pair for pair in pairs if pair["against"] == against]
        ours, other = (statistics.median(pair[key] for pair in these) for key in ("ours_seconds", "other_seconds"))
        verdict = f"{ALL[against].title} is faster" if other < ours else "this project is faster"
        level = statistics.fmean(pair["auc"] for pair in these)
        lines.append(f"to AUC {level:.5f}: this project {ours:.1f} s, {ALL[against].title} {other:.1f} s: {verdict}")
    return lines


def draw(summary: Summary, settings: Mapping[str, Any], path: Path) -> None:
    """Draws bars of wall time, CPU time and memory, one row per contender, into a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [(name, row) for name, row in summary.items() if row["runs"]]
    measures = [
        ("wall_seconds", "wall time, s", 1),
        ("cpu_seconds", "CPU time, s", 1),
        ("peak_pss_nbytes", "peak memory, GB", 1e9),
    ]
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 1.2 + 0.42 * len(rows)), sharey=True, layout="constrained")
    for axis, (key, title, unit) in zip(axes, measures, strict=True):
        values = [row[key] / unit for _, row in rows]
        colours = ["#d9622b" if name.startswith("ours") else "#8a97a6" for name, _ in rows]
        bars = axis.barh([ALL[name].title for name, _ in rows], values, color=colours, height=0.66)
        axis.bar_label(bars, fmt="%.2f" if unit > 1 else "%.1f", padding=3, fontsize=9)
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xlim(0, max(values, default=1) * 1.18)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(left=False, labelsize=9)
    axes[0].invert_yaxis()
    figure.suptitle(
        f"Parquet to model: {settings['rows']:,} rows x {settings['features']}, {settings['rounds']} rounds, depth "
        f"{settings['depth']}, {settings['threads']} threads, medians",
        x=0.01, ha="left", fontsize=11,
    )  # fmt: skip
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
