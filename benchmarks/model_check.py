"""Checks how well the analytic model predicts rounds that it was not calibrated with: predicts first, then measures.

    python -m benchmarks.model_check

Rows of 20 k to 2 M, 8 to 128 features, depths 4 to 10, two and five classes, even and uneven shares; none of these is
in the calibration's grid.  A new calibration is made first.  The record has for each configuration the prediction,
every measured sample, and the errors of T and PE.  Run it on an idle machine.
"""

import statistics
import sys
from typing import Any

import click

from benchmarks import record
from pipeline.cli.terminal import run
from pipeline.config.job import Cluster
from pipeline.efficiency.machine import Machine
from pipeline.efficiency.records import Point
from pipeline.run.connect import connect
from pipeline.runtime.placement import placement
from pipeline.scaling.calibration import calibrate
from pipeline.scaling.experiment import ExperimentContext, measure
from pipeline.scaling.plan import Plan
from pipeline.scaling.synthetic import Synthetic
from pipeline.scaling.workloads import SyntheticWorkload

UNEVEN = (0.3, 0.7)
CONFIGURATIONS: tuple[tuple[Synthetic, tuple[float, ...]], ...] = (
    (Synthetic(20_000, 24, 6), ()),
    (Synthetic(60_000, 64, 5), ()),
    (Synthetic(150_000, 24, 8), ()),
    (Synthetic(400_000, 32, 6), UNEVEN),
    (Synthetic(2_000_000, 8, 5), ()),
    (Synthetic(1_000_000, 28, 6), ()),
    (Synthetic(300_000, 12, 10), ()),
    (Synthetic(100_000, 128, 4), ()),
    (Synthetic(120_000, 16, 6, classes=5), ()),
    (Synthetic(250_000, 20, 5, classes=5), (0.4, 0.6)),
    (Synthetic(40_000, 100, 9), ()),
    (Synthetic(200_000, 48, 7), UNEVEN),
)
LONG = 0.020  # seconds of a round: from here on the meter's share counts
TARGETS = {  # largest values that meet the target
    "PE error, median": 0.03, "PE error, worst": 0.06, "T error, median": 0.10, "T error, worst": 0.20,
    "closure, worst": 0.03, "identity error, worst": 1e-9, "meter's share, rounds of 20 ms": 0.005, "calibration, s": 15.0,
    "configurations with other bytes": 0,
}  # fmt: skip


@click.command(help=__doc__)
@click.option("--repeat", type=click.IntRange(1), default=5, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True, help="Timed, of each repetition.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many configurations.")
@click.option("--name", default="model_check", show_default=True, help="Of the record; an empty one: none is written.")
def command(repeat: int, rounds: int, limit: int | None, name: str) -> None:
    circumstances = record.circumstances()
    cluster = Cluster(device="cpu", workers=2, threads=1, dashboard=False)
    with connect(cluster) as client:
        machine = calibrate(client, placement(client, cluster), [2])
        click.echo(f"calibrated in {machine.seconds:.1f} s\n\n{HEADER}")
        rows = []
        for data, shares in CONFIGURATIONS[:limit]:
            bench = ExperimentContext(
                client, SyntheticWorkload(client, data), lambda: placement(client, cluster), machine
            )
            plan = Plan(workers=(2,), repeat=repeat, rounds=rounds, shares=shares, single=False)
            (point,) = measure(bench, plan).points
            rows.append(row_of(str(data) + (f", shares {shares}" if shares else ""), point))
            click.echo(line(rows[-1]))
    found = summary(rows, machine)
    click.echo()
    for what, value in found.items():
        click.echo(f"{what:34} {value:10.4g}   {'reached' if value <= TARGETS[what] else f'missed: {TARGETS[what]}'}")
    if name:
        path = record.write(name, {
            "circumstances": circumstances, "calibration": machine.to_dict(), "rounds": rounds, "repeat": repeat,
            "summary": found, "targets": TARGETS, "rows": rows,
        })  # fmt: skip
        click.echo(f"\n{path}")


def row_of(name: str, point: Point) -> dict[str, Any]:
    """Returns one configuration: medians over the repetitions, errors, and every sample."""
    assert point.predicted is not None
    seconds = statistics.median(sample.seconds for sample in point.samples)
    efficiency = statistics.median(sample.figures.PE for sample in point.samples)
    workers = [worker for sample in point.samples for worker in sample.workers]
    return {
        "name": name,
        "T": seconds,
        "T_predicted": point.predicted.seconds,
        "T_error": point.predicted.seconds / seconds - 1,
        "PE": efficiency,
        "PE_predicted": point.predicted.figures.PE,
        "PE_error": point.predicted.figures.PE - efficiency,
        "useful": [statistics.median(s.workers[rank].split.useful for s in point.samples) for rank in (0, 1)],
        "wait_and_other": statistics.median(worker.split.wait + worker.split.other for worker in workers),
        "useful_predicted": [split.useful for split in point.predicted.splits],
        "transfer": statistics.median(worker.split.transfer for worker in workers),
        "transfer_predicted": point.predicted.splits[0].transfer,
        "closure": statistics.median(worker.closure for worker in workers if worker.closure is not None),
        "bytes_exact": all(worker.bytes_sent == worker.bytes_expected is not None for worker in workers),
        "identity_error": max(sample.figures.identity_error for sample in point.samples),
        "meter_share": statistics.median(worker.meter_share for worker in workers),
        "samples": [
            {"T": sample.seconds, "PE": sample.figures.PE, "E": sample.figures.E, "J": sample.figures.J}
            for sample in point.samples
        ],
    }


def summary(rows: list[dict[str, Any]], machine: Machine) -> dict[str, float]:
    """Returns the quantities that have targets."""
    efficiency, seconds = ([abs(row[name]) for row in rows] for name in ("PE_error", "T_error"))
    return {
        "PE error, median": statistics.median(efficiency),
        "PE error, worst": max(efficiency),
        "T error, median": statistics.median(seconds),
        "T error, worst": max(seconds),
        "closure, worst": max(row["closure"] for row in rows),
        "identity error, worst": max(row["identity_error"] for row in rows),
        "meter's share, rounds of 20 ms": max((row["meter_share"] for row in rows if row["T"] >= LONG), default=0.0),
        "calibration, s": machine.seconds,
        "configurations with other bytes": sum(not row["bytes_exact"] for row in rows),
    }


HEADER = (
    f"{'':66} {'T predicted':>11} {'measured':>9} {'error':>7}   {'PE predicted':>12} {'measured':>8} {'error':>7}"
    f"  {'x pred.':>8} {'meas.':>7}  {'closure':>7}"
)


def line(row: dict[str, Any]) -> str:
    return (
        f"{row['name']:66} {1e3 * row['T_predicted']:8.2f} ms {1e3 * row['T']:6.2f} ms {row['T_error']:+7.1%}"
        f"   {row['PE_predicted']:12.3f} {row['PE']:8.3f} {row['PE_error']:+7.3f}"
        f"  {1e3 * row['transfer_predicted']:8.2f} {1e3 * row['transfer']:7.2f}  {row['closure']:7.1%}"
        f"{'' if row['bytes_exact'] else '  bytes differ'}"
    )


def main() -> None:
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.model_check"))


if __name__ == "__main__":
    main()
