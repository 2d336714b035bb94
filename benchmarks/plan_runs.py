"""Measures runs of many shapes and layouts, from which unit costs are fitted and plans are checked.

    python -m benchmarks.plan_runs --out runs.jsonl --layouts 1x1,1x2,2x1

Each line is a run of `pipeline train --json`.  A run that is in the file already is not measured again.  Audits of earlier
runs have no influence, and none is added to them.
"""

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks.measure import run as measure
from benchmarks.plan_sets import ROOT, SETS, PlanSet
from benchmarks.small_job_shapes import data_folder
from pipeline.cli.terminal import run


@click.command(help=__doc__)
@click.option("--sets", default=",".join(SETS), show_default=True)
@click.option("--layouts", default="1x1,1x2,2x1", show_default=True, help="Workers x threads of each.")
@click.option("--rounds", type=click.IntRange(1), help="Default: of the set.")
@click.option("--depth", type=click.IntRange(1), help="Default: of the set.")
@click.option("--share", type=click.FloatRange(0.01, 4), default=1.0, show_default=True, help="Of generated rows.")
@click.option("--report", is_flag=True, help="With the report.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), default=Path(tempfile.gettempdir()) / "plan-sets")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def command(
    sets: str, layouts: str, rounds: int | None, depth: int | None, share: float, report: bool, repeat: int, cache: Path, out: Path
) -> int:  # fmt: skip
    unknown = [name for name in sets.split(",") if name not in SETS]
    if unknown:
        raise click.UsageError(f"--sets {unknown[0]}: expected some of {', '.join(SETS)}")
    known = [json.loads(line)["key"] for line in out.read_text("utf-8").splitlines()] if out.exists() else []
    for number in range(repeat):
        for name in sets.split(","):
            for layout in layouts.split(","):
                one = SETS[name]
                key = [name, layout, rounds or one.rounds, depth or 0, share, report, number]
                if key in known:
                    continue
                if not one.available():
                    print(f"{name:10s} left out: no {one.real} in {data_folder()}: set PIPELINE_DATA", flush=True)
                    continue
                line = {"key": key, "set": name, **attempt(one, layout, rounds, depth, share, report, cache)}
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(
                    f"{name:10s} {layout:4s} {line['wall_seconds']:6.1f} s  {line['cpu_seconds']:6.1f} CPU s",
                    flush=True,
                )
    return 0


def attempt(
    one: PlanSet, layout: str, rounds: int | None, depth: int | None, share: float, report: bool, cache: Path
) -> Mapping[str, Any]:  # fmt: skip
    """One run in a process of its own.  RuntimeError if it fails."""
    fields = one.job(cache, share)
    fields["training"]["rounds"] = rounds or one.rounds
    if depth:
        fields["training"]["params"]["max_depth"] = depth
    workers, threads = map(int, layout.split("x"))
    job = {part: fields[part] for part in ("data", "training")}
    load = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="plan-run-") as folder:
        fields["cluster"] = {"workers": workers, "threads": threads}
        fields["output"] = {"model": f"{folder}/model", "report": report}
        toml = Path(folder) / "job.toml"
        toml.write_text(toml_of(fields), encoding="utf-8")
        words = [sys.executable, "-m", "pipeline", "train", str(toml), "--json", "--quiet"]
        env = {**os.environ, "PYTHONWARNINGS": "ignore", "XDG_STATE_HOME": folder}  # where audits are kept
        cost = measure(words, cwd=ROOT, env=env)
    if cost.exit_code:
        raise RuntimeError(f"{one.name}: exit code {cost.exit_code}: {(cost.stderr.strip() or 'no message')[-500:]}")
    summary = json.loads(cost.stdout.strip().splitlines()[-1])
    return {
        "layout": layout,
        "job": job,
        "wall_seconds": cost.wall_seconds,
        "cpu_seconds": cost.cpu_seconds,
        "peak_pss_nbytes": cost.peak_pss_nbytes,  # of all processes together
        "load_before": round(load, 2),
        "summary": {name: value for name, value in summary.items() if name != "versions"},
    }


def toml_of(fields: Mapping[str, Any], prefix: str = "") -> str:
    """A job's fields as TOML, whose inline values are JSON's for the types that they have."""
    plain = {key: value for key, value in fields.items() if not isinstance(value, Mapping)}
    tables = {key: value for key, value in fields.items() if isinstance(value, Mapping) and value}
    lines = [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in plain.items() if value is not None]
    text = "\n".join(lines) + "\n"
    for key, value in tables.items():
        name = f"{prefix}{json.dumps(key)}"
        text += f"[{name}]\n{toml_of(value, f'{name}.')}"
    return text


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.plan_runs"))
