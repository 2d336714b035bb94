"""Checks plans against runs: memory, time, intervals, choice, what audits gain, and limits that end a worker.

    python -m benchmarks.plan_runs --out runs.jsonl             # on a quiet machine
    python -m benchmarks.plan_fit runs.jsonl --write
    python -m benchmarks.plan_check runs.jsonl --probe --limits

Without options only the recorded runs are read.  --probe plans each set anew, with and without a probe, and measures how
long that takes.  --limits trains three sets with the refusal switched off and limits around what was planned: 0.7 times
it has to end the worker, with 1.3 times it it has to live.  Exit code 1 where a target is missed.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks import record
from benchmarks.plan_fit import Run, left_out, read_runs, residuals
from benchmarks.plan_runs import toml_of
from benchmarks.plan_sets import NAMED, ROOT, SETS
from pipeline.cli.terminal import run
from pipeline.planning.audit import AuditLine, RunMeasurements, correction, ratios_of
from pipeline.planning.forecast import Correction, MeasuredTrees, default_costs, forecast
from pipeline.planning.intervals import COVERAGE, factor
from pipeline.planning.job_size import SizeFacts
from pipeline.planning.plan import GAIN

LIMITED = ("narrow", "wide", "deep")
PROBE_SECONDS = 5.0
WITHOUT_REFUSAL = """
import sys
from pipeline.planning.plan import Plan
from pipeline.planning.storage_plan import StoragePlan
Plan.validate = lambda self: None
StoragePlan.validate = lambda self: None
from pipeline.cli.main import main
sys.argv[0] = "pipeline"
main()
"""

Found = dict[str, Any]


@click.command(help=__doc__)
@click.argument("runs", type=click.Path(exists=True, path_type=Path))
@click.option("--probe", is_flag=True)
@click.option("--limits", is_flag=True)
@click.option("--cache", type=click.Path(path_type=Path), default=Path(tempfile.gettempdir()) / "plan-sets")
@click.option("--name", default="plan_check", show_default=True, help="Of the record; an empty one: none is written.")
def command(runs: Path, probe: bool, limits: bool, cache: Path, name: str) -> int:
    circumstances = record.circumstances()
    measured = [one for one in read_runs(runs) if one.size.rounds]
    found: Found = {
        "by_set": by_set(measured),
        "coverage": coverage(measured),
        "audits": after_audits(measured),
        "choice": choices(measured),
    }
    print(text_of(found))
    if probe:
        found["probes"] = probes(measured, cache)
    if limits:
        found["limits"] = [limited(set_name, share, cache) for set_name in LIMITED for share in (0.7, 1.3)]
    missed = misses(found)
    for line in missed:
        print(f"missed: {line}")
    if name:
        count = {"runs": len(measured), "sets": len({one.name for one in measured})}
        record.write(name, {"benchmark": "plan_check", **circumstances, "settings": count, **found, "missed": missed})
    return int(bool(missed))


def predicted(one: Run, how: Correction | None = None) -> Any:
    return forecast(one.size, one.layout, one.memory, how or Correction())


def by_set(runs: Sequence[Run]) -> dict[str, Found]:
    """Measured over predicted of each set, with the package's costs: the median of its runs, and the extremes of RSS."""
    found: dict[str, Found] = {}
    for name in dict.fromkeys(one.name for one in runs):
        mine = [(one, predicted(one)) for one in runs if one.name == name]
        rss = [made.memory.peak_nbytes / max(one.rss.values()) for one, made in mine]
        found[name] = {
            "runs": len(mine),
            "cpu": statistics.median(sum(one.cpu.values()) / made.cpu_seconds for one, made in mine),
            "wall": statistics.median(sum(one.wall.values()) / made.wall_seconds for one, made in mine),
            "rss_predicted_over_measured": [min(rss), max(rss)],
        }
    return found


def coverage(runs: Sequence[Run]) -> Found:
    """The share of measured stages inside their 80 % interval, which stands on the other data sets."""
    inside = total = 0
    errors: dict[str, list[float]] = {"cpu": [], "wall": [], "rss": []}
    base = default_costs()
    every = left_out(runs, base, residuals)
    names = [one.name for set_name in dict.fromkeys(one.name for one in runs) for one in runs if one.name == set_name]
    for kind, stages in every.items():
        errors[kind] = [abs(math.exp(one) - 1) for one in stages["total"]]
        for residual in stages.values():
            for place, value in enumerate(residual):
                others = [one for one, name in zip(residual, names, strict=True) if name != names[place]]
                inside += abs(value) <= math.log(factor(others))
                total += 1
    return {
        "share": inside / total, "values": total, "runs": len(runs),
        "median_error_of_other_sets": {kind: statistics.median(every_one) for kind, every_one in errors.items()},
    }  # fmt: skip


def after_audits(runs: Sequence[Run], audits: int = 5) -> Found:
    """Errors of CPU seconds of the first plan of a set, and of one that follows five audits of other runs of it."""
    first, later = [], []
    for name in dict.fromkeys(one.name for one in runs):
        mine = [one for one in runs if one.name == name]
        if len(mine) <= audits:
            continue
        for place, one in enumerate(mine):
            others = (mine[place + 1 :] + mine[:place])[-audits:]
            how = correction([_line(other) for other in others], "here", one.name)
            first.append(abs(math.log(sum(one.cpu.values()) / predicted(one).cpu_seconds)))
            later.append(abs(math.log(sum(one.cpu.values()) / predicted(one, how).cpu_seconds)))
    return (
        {"first": statistics.median(first), "after_5": statistics.median(later), "plans": len(first)} if first else {}
    )


def _line(one: Run) -> AuditLine:
    ratios = ratios_of(one.size, one.layout, one.memory, RunMeasurements(one.cpu, one.wall, one.rss, one.leaves))
    return AuditLine(
        "here",
        one.name,
        ratios.cpu,
        ratios.wall,
        ratios.rss,
        trees=MeasuredTrees.of(one.size, one.leaves),
        facts=SizeFacts(one.size.features, one.size.bins, one.size.trees, 1.0, None, one.memory.missing),
    )


def choices(runs: Sequence[Run]) -> dict[str, Found]:
    """The layout that a plan chooses, and how much slower it was than the best that was measured."""
    found: dict[str, Found] = {}
    for name in dict.fromkeys(one.name for one in runs):
        alike: dict[tuple[int, int, int], list[Run]] = {}
        for one in runs:
            if one.name == name and one.layout.slots == 2 and not one.size.report:
                alike.setdefault((one.size.rows, one.size.rounds, one.size.depth), []).append(one)
        for key, every in alike.items():
            seconds: dict[Any, list[float]] = {}
            for one in every:
                seconds.setdefault(one.layout, []).append(sum(one.wall.values()))
            if len(seconds) < 2:
                continue
            taken = {layout: statistics.median(times) for layout, times in seconds.items()}
            chosen = min(
                every, key=lambda one: predicted(one).wall_seconds * (1.0 if one.layout.workers == 1 else 1 / GAIN)
            ).layout
            found[f"{name} {key[0]}"] = {
                "chosen": f"{chosen.workers}x{chosen.threads}", "slower_than_best": taken[chosen] / min(taken.values()) - 1
            }  # fmt: skip
    return found


def probes(runs: Sequence[Run], cache: Path) -> dict[str, Found]:
    """Plans of each set with and without a probe, by the command: what they say, and what they take."""
    found: dict[str, Found] = {}
    for name in dict.fromkeys(one.name for one in runs):
        mine = [one for one in runs if one.name == name and (one.layout.workers, one.layout.threads) == (1, 2)]
        whole = [one for one in mine if one.size.rows == max(other.size.rows for other in mine) and not one.size.report]
        if not whole:
            continue
        whole = [
            one for one in whole if (one.size.rounds, one.size.depth) == (whole[0].size.rounds, whole[0].size.depth)
        ]
        cpu = statistics.median(sum(one.cpu.values()) for one in whole)
        wall = statistics.median(sum(one.wall.values()) for one in whole)
        found[name] = {"measured_cpu": cpu, "measured_wall": wall}
        for kind, seconds in (("probe", PROBE_SECONDS), ("metadata", 0.0)):
            document, took = _plan(name, cache, seconds, whole[0].size.rounds)
            layout = next(one for one in document["layouts"] if (one["workers"], one["threads"]) == (1, 2))
            found[name][kind] = {
                "seconds": took, "cpu": layout["cpu"]["middle"] / cpu, "wall": layout["wall"]["middle"] / wall,
                "rss": layout["peak_rss_nbytes"]["middle"] / max(max(one.rss.values()) for one in whole),
            }  # fmt: skip
        both = found[name]
        print(f"{name:10s} measured {cpu:6.1f} CPU s {wall:6.1f} s; " + "; ".join(
            f"{kind}: {both[kind]['cpu']:.2f} x CPU, {both[kind]['wall']:.2f} x wall, {both[kind]['rss']:.2f} x RSS, took {both[kind]['seconds']:.1f} s"
            for kind in ("probe", "metadata")
        ), flush=True)  # fmt: skip
    return found


def _plan(name: str, cache: Path, probe: float, rounds: int) -> tuple[Found, float]:
    with tempfile.TemporaryDirectory(prefix="plan-check-") as folder:
        fields = SETS[name].job(cache)
        fields["training"]["rounds"] = rounds
        fields["output"] = {"report": False}
        job = Path(folder) / "job.toml"
        job.write_text(toml_of(fields), encoding="utf-8")
        words = [
            sys.executable,
            "-m",
            "pipeline",
            "plan",
            str(job),
            "--workers",
            "1,2",
            "--probe",
            str(probe),
            "--json",
            "--quiet",
        ]
        begin = time.perf_counter()
        done = subprocess.run(
            words, cwd=ROOT, env={**os.environ, "XDG_STATE_HOME": folder}, capture_output=True, text=True, check=False
        )
        took = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{name}: exit code {done.returncode}: {done.stderr[-500:]}")
    return json.loads(done.stdout.strip().splitlines()[-1]), took


def limited(name: str, share: float, cache: Path) -> Found:
    """A run whose worker may take `share` of what was planned, with the matrix in memory and nothing refused."""
    document, _ = _plan(name, cache, 0.0, SETS[name].rounds)
    planned = document["layouts"][0]["peak_rss_nbytes"]["middle"]
    with tempfile.TemporaryDirectory(prefix="plan-check-") as folder:
        fields = SETS[name].job(cache)
        fields["training"] |= {"matrix": "memory", "max_restarts": 1}
        fields["output"] = {"report": False, "model": f"{folder}/model", "audit": False}
        fields["cluster"] = {"workers": 1, "threads": 2, "memory": f"{share * planned / 2**20:.0f}MiB"}
        job = Path(folder) / "job.toml"
        job.write_text(toml_of(fields), encoding="utf-8")
        words = [sys.executable, "-c", WITHOUT_REFUSAL, "train", str(job), "--json", "--quiet"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 2:
        raise RuntimeError(f"{name}: {done.stderr.strip()[-300:]}")
    lives = done.returncode == 0
    print(f"{name:10s} limit {share} x {planned / 2**20:,.0f} MiB: {'lives' if lives else 'ended'}", flush=True)
    last = "" if lives else (done.stderr.strip() or "no message").splitlines()[-1][:200]
    return {"set": name, "share": share, "planned_nbytes": planned, "lives": lives, "message": last}


def misses(found: Mapping[str, Any]) -> list[str]:
    """The targets that are not met."""
    out = []
    for name, one in found["by_set"].items():
        low, high = one["rss_predicted_over_measured"]
        if low < 0.85 or high > 1.25:
            out.append(f"{name}: RSS predicted over measured {low:.2f} to {high:.2f}, not within 0.85 to 1.25")
    share = found["coverage"]["share"]
    if not 0.7 <= share <= 0.9:
        out.append(f"intervals cover {share:.0%}, not 70 to 90 %")
    audits = found["audits"]
    if audits and audits["after_5"] > max(0.6 * audits["first"], 0.10):
        out.append(f"after 5 audits the median error is {audits['after_5']:.0%}, the first was {audits['first']:.0%}")
    out += [
        f"{name}: {one['chosen']} was {one['slower_than_best']:.0%} slower than the best layout"
        for name, one in found["choice"].items() if one["slower_than_best"] > 0.05
    ]  # fmt: skip
    for kind, limit in (("probe", 0.15), ("metadata", 0.25)):
        every = [one[kind] for one in found.get("probes", {}).values()]
        if every and (error := statistics.median(abs(one["cpu"] - 1) for one in every)) > limit:
            out.append(f"total CPU with {kind}: median error {error:.0%}, not {limit:.0%}")
        if every and (error := statistics.median(abs(one["wall"] - 1) for one in every)) > 0.15:
            out.append(f"wall with {kind}: median error {error:.0%}, not 15 %")
    for name, one in found.get("probes", {}).items():
        for kind, most in (("probe", PROBE_SECONDS + 6 + 0.01 * one["measured_wall"]), ("metadata", 2.0)):
            if one[kind]["seconds"] > most:
                out.append(f"{name}: the plan with {kind} took {one[kind]['seconds']:.1f} s, not {most:.1f} s")
    out += [
        f"{one['set']}: a worker limited to {one['share']} x the planned memory {'lives' if one['lives'] else 'was ended'}"
        for one in found.get("limits", []) if one["lives"] != (one["share"] > 1)
    ]  # fmt: skip
    return out


def text_of(found: Mapping[str, Any]) -> str:
    lines = [f"{'set':10s} runs  measured/predicted: CPU  wall   RSS predicted/measured"]
    for name, one in found["by_set"].items():
        low, high = one["rss_predicted_over_measured"]
        mark = "*" if name in NAMED else " "
        lines.append(
            f"{name:10s}{mark}{one['runs']:4d} {one['cpu']:23.2f}  {one['wall']:.2f}   {low:.2f} to {high:.2f}"
        )
    cover, audits = found["coverage"], found["audits"]
    other = cover["median_error_of_other_sets"]
    lines.append(
        f"intervals of {100 * COVERAGE:.0f} % cover {cover['share']:.1%} of {cover['values']:,} stages of {cover['runs']} runs, each "
        f"data set left out; median errors of totals then: CPU {other['cpu']:.0%}, wall {other['wall']:.0%}, RSS {other['rss']:.0%}"
    )
    if audits:
        lines.append(
            f"CPU error of a first plan {audits['first']:.0%}, after 5 audits {audits['after_5']:.0%} ({audits['plans']} plans)"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.plan_check"))
