"""Checks the analytic model beyond one machine: hosts as network namespaces, links shaped, predicted then measured.

    python -m benchmarks.network            (Linux, root)

For each speed of the link: hosts are made, a Dask worker in each; the model is calibrated with the allreduce table of
that link, then predicts rows, features and depths that it was not calibrated with, and these are measured.  If transfer
dominates, the error of T must be within 10 %.  More hosts than cores share cores: compute is then no test.
"""

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks import namespaces, record
from pipeline.cli.scale_options import Numbers
from pipeline.cli.terminal import run
from pipeline.config.job import Cluster
from pipeline.efficiency.cost import from_configuration, predict
from pipeline.efficiency.machine import Machine
from pipeline.efficiency.records import Point
from pipeline.run.connect import connect
from pipeline.runtime.placement import Placement, placement
from pipeline.scaling.calibration import calibrate
from pipeline.scaling.experiment import ExperimentContext, measure
from pipeline.scaling.plan import Plan
from pipeline.scaling.synthetic import Synthetic
from pipeline.scaling.workloads import SyntheticWorkload

SUBJECTS = (
    Synthetic(20_000, 12, depth=4),
    Synthetic(40_000, 24, depth=6),
    Synthetic(100_000, 40, depth=5),
    Synthetic(30_000, 16, depth=5, classes=5),
)
WIDEST_SECONDS = 6.0  # of one repetition
DOMINATES = 0.5  # share of a round that is transfer
TARGET = 0.10
RAW_SECONDS = 1.0  # of the plain transfer that measures the link


@click.command(help=__doc__)
@click.option("--megabits", type=Numbers(float), default="1000,100,20", show_default=True, help="Speeds of the links.")
@click.option("--hosts", type=Numbers(int), default="2,3,4", show_default=True, help="Numbers of hosts.")
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True)
@click.option("--name", default="network", show_default=True, help="Of the record; an empty one: none is written.")
def command(megabits: tuple[float, ...], hosts: tuple[int, ...], repeat: int, name: str) -> None:
    namespaces.check()
    circumstances = record.circumstances()
    links = []
    click.echo(HEADER)
    for speed in megabits:
        for count in hosts:
            links.append(_link(count, speed, repeat))
    rows = [row for link in links for row in link["rows"]]
    heavy = [abs(row["T_error"]) for row in rows if row["transfer_share"] >= DOMINATES]
    found = {
        "where transfer dominates": len(heavy),
        "T error, median": statistics.median(heavy) if heavy else None,
        "T error, worst": max(heavy, default=None),
        "bytes exact in all": all(row["bytes_exact"] for row in rows),
    }
    click.echo("\n" + "\n".join(f"{what}: {value}" for what, value in found.items()))
    if name:
        click.echo(record.write(name, {
            "circumstances": circumstances, "target": TARGET, "summary": found, "links": links,
        }))  # fmt: skip


def _link(count: int, megabits: float, repeat: int) -> dict[str, Any]:
    """Measures all subjects on `count` hosts with links of this speed."""
    rows = []
    section = Cluster(device="cpu", workers=count, dashboard=False)
    with (
        tempfile.TemporaryDirectory(prefix="network-") as folder,
        namespaces.hosts(count, megabits) as where,
        namespaces.cluster(where, Path(folder)) as address,
        connect(section.model_copy(update={"scheduler": address})) as client,
    ):

        def place() -> Placement:
            return placement(client, section)

        raw = namespaces.raw_megabits(where[0], where[1], int(megabits * 1e6 / 8 * RAW_SECONDS))
        machine = calibrate(client, place(), [count])
        click.echo(
            f"{megabits:7g} {count:5}  a plain transfer gets {raw:.1f} Mbit/s; calibrated in {machine.seconds:.0f} s"
        )
        for data in SUBJECTS:
            before = sum(host.passed_nbytes() for host in where)
            point = _measured(ExperimentContext(client, SyntheticWorkload(client, data), place, machine), count, repeat)
            passed = sum(host.passed_nbytes() for host in where) - before
            rows.append(_row(str(data), count, megabits, point) | {"passed_nbytes": passed})
            click.echo(_line(rows[-1]))
    return {
        "hosts": count, "megabits": megabits, "raw_megabits": raw, "calibration_seconds": machine.seconds,
        "dask_bytes_per_second": machine.dask_bytes_per_second,
        "allreduce": [list(pair) for pair in machine.collectives[count]], "rows": rows,
    }  # fmt: skip


def _measured(bench: ExperimentContext, count: int, repeat: int) -> Point:
    rounds = _rounds(bench, count)
    (point,) = measure(bench, Plan(workers=(count,), repeat=repeat, rounds=rounds, single=False)).points
    return point


def _rounds(bench: ExperimentContext, count: int) -> int:
    """Returns as many rounds as one repetition has time for."""
    assert isinstance(bench.machine, Machine)
    (point,) = measure(bench, Plan(workers=(count,), repeat=1, rounds=3, single=False)).points
    predicted = predict(bench.machine, from_configuration(point.configuration)).seconds
    return max(4, min(20, int(WIDEST_SECONDS / predicted)))


def _row(name: str, count: int, megabits: float, point: Point) -> dict[str, Any]:
    assert point.predicted is not None
    seconds = statistics.median(sample.seconds for sample in point.samples)
    workers = [worker for sample in point.samples for worker in sample.workers]
    transfer = statistics.median(worker.split.transfer for worker in workers)
    efficiency = [sample.figures.E for sample in point.samples if sample.figures.E is not None]
    return {
        "name": name,
        "hosts": count,
        "megabits": megabits,
        "T": seconds,
        "T_predicted": point.predicted.seconds,
        "T_error": point.predicted.seconds / seconds - 1,
        "E": statistics.median(efficiency) if efficiency else None,
        "E_predicted": point.predicted.figures.E,
        "PE": statistics.median(sample.figures.PE for sample in point.samples),
        "PE_predicted": point.predicted.figures.PE,
        "transfer": transfer,
        "transfer_predicted": point.predicted.splits[0].transfer,
        "transfer_share": transfer / seconds,
        "closure": statistics.median(worker.closure for worker in workers if worker.closure is not None),
        "sent_nbytes": sum(worker.bytes_sent or 0 for worker in workers),
        "bytes_exact": all(worker.bytes_sent == worker.bytes_expected is not None for worker in workers),
        "samples": [sample.seconds for sample in point.samples],
    }


HEADER = (
    f"{'Mbit/s':>7} {'hosts':>5}  {'':58} {'T predicted':>11} {'measured':>11} {'error':>7}  {'E pred.':>8} {'meas.':>7}"
    f"  {'transfer':>8} {'closure':>7}"
)


def _line(row: dict[str, Any]) -> str:
    figures = " ".join(
        f"{'-' if row[name] is None else format(row[name], '.3f'):>{width}}"
        for name, width in (("E_predicted", 8), ("E", 7))
    )
    return (
        f"{row['megabits']:7g} {row['hosts']:5}  {row['name']:58} {1e3 * row['T_predicted']:8.1f} ms "
        f"{1e3 * row['T']:8.1f} ms {row['T_error']:+7.1%}  {figures}  {row['transfer_share']:8.0%} {row['closure']:7.1%}"
        f"{'' if row['bytes_exact'] else '  bytes differ'}"
    )


def main() -> None:
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.network"))


if __name__ == "__main__":
    main()
