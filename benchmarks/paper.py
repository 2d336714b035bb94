"""Applies the analytic model without a cluster: predicted against published scaling, and clusters we do not have.

    python -m benchmarks.paper

Shows published measurements (published.py) and the model's predictions for them, misses included, with the assumptions;
then workloads on presets of computers and interconnects.  Needs no cluster; writes benchmarks/results/paper.json.
"""

import dataclasses
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks import record
from benchmarks.published import PUBLISHED, Comparison, compare
from pipeline.cli.terminal import run
from pipeline.efficiency import cost
from pipeline.efficiency.cost import Workload
from pipeline.scaling import what_if
from pipeline.scaling.what_if import Computer, Interconnect

CLUSTERS: tuple[tuple[str, Workload, Computer, Interconnect, tuple[int, ...]], ...] = (
    ("Higgs, depth 8", what_if.higgs(), what_if.SERVER, what_if.ETHERNET_10G, (1, 2, 4, 8, 16, 64)),
    ("Higgs, depth 8", what_if.higgs(), what_if.SERVER, what_if.ETHERNET_100G, (1, 2, 4, 8, 16, 64)),
    ("Higgs, depth 8", what_if.higgs(), what_if.V100, what_if.PCIE, (1, 2, 4, 8)),
    ("Higgs, depth 8", what_if.higgs(), what_if.V100, what_if.NVLINK, (1, 2, 4, 8)),
    ("Criteo, 255 leaves", what_if.criteo(), what_if.SERVER, what_if.ETHERNET_10G, (1, 4, 16, 64, 256)),
    ("Criteo, 255 leaves", what_if.criteo(), what_if.SERVER, what_if.ETHERNET_100G, (1, 4, 16, 64, 256)),
    ("Criteo, 255 leaves", what_if.criteo(), what_if.V100, what_if.INFINIBAND_FDR, (8, 16, 64, 256)),
)


def cluster(
    name: str, workload: Workload, computer: Computer, link: Interconnect, counts: tuple[int, ...]
) -> dict[str, Any]:
    """Predicts one workload on one kind of cluster, in several sizes."""
    made = what_if.machine(computer, link)
    points = [what_if.simulate(made, workload.on(count, workload.total_rows)) for count in counts]
    return {
        "workload": name,
        "computer": computer.name,
        "interconnect": link.name,
        "points": [
            dataclasses.asdict(point)
            | {"speedup_efficiency": points[0].seconds * points[0].workers / (point.seconds * point.workers)}
            for point in points
        ],
        "stops_paying": cost.stops_paying(made, dataclasses.replace(workload, device=computer.device)),
    }


def print_comparisons(console: Console, comparisons: list[Comparison]) -> None:
    table = Table("published by", "workers", "s a round", "predicted", "a priori", "efficiency", "predicted", "a priori",
                  "", title="Predicted against published")  # fmt: skip
    for one in comparisons:
        table.add_row(
            one.name, str(one.workers), f"{one.published:.4g}", f"{one.scaled:.4g}", f"{one.a_priori:.4g}",
            f"{one.published_efficiency:.3f}", f"{one.scaled_efficiency:.3f}", f"{one.a_priori_efficiency:.3f}",
            "base" if one.base else "" if one.close else "missed",
        )  # fmt: skip
    console.print(table)
    told = ""
    for published in PUBLISHED:
        console.print(f"\n{published.name}: {published.verdict}", highlight=False)
        about = f"  Assumed: {published.assumed}.\n  Source: {published.source}: {published.circumstances}."
        if about != told:
            console.print(about, highlight=False)
        told = about


def print_clusters(console: Console, clusters: list[dict[str, Any]]) -> None:
    table = Table("workload", "workers of", "joined by", "workers", "s a round", "transfer", "E", "PE", "T_1/(N T_N)",
                  "stops paying", title="On paper")  # fmt: skip
    for one in clusters:
        for number, point in enumerate(one["points"]):
            head = (one["workload"], one["computer"], one["interconnect"]) if not number else ("", "", "")
            e = point["efficiency"]
            table.add_row(
                *head, str(point["workers"]), f"{point['seconds']:.4g}", f"{point['transfer'] / point['seconds']:.1%}",
                "saturated" if e is None else f"{e:.3g}", f"{point['parallel_efficiency']:.3f}",
                f"{point['speedup_efficiency']:.3f}", "" if number else str(one["stops_paying"]),
            )  # fmt: skip
    console.print(table)


@click.command(help=__doc__)
@click.option("--name", default="paper", show_default=True, help="Of the record; an empty one: none is written.")
def command(name: str) -> None:
    console = Console(width=170)
    comparisons = [one for published in PUBLISHED for one in compare(published)]
    clusters = [cluster(*arguments) for arguments in CLUSTERS]
    print_comparisons(console, comparisons)
    print_clusters(console, clusters)
    if name:
        path = record.write(name, {
            "benchmark": "paper",
            "circumstances": record.circumstances(),
            "interconnects": [dataclasses.asdict(link) for link in what_if.INTERCONNECTS],
            "computers": [{"name": one.name, "source": one.source} for one in what_if.COMPUTERS],
            "published": [dataclasses.asdict(one) for one in PUBLISHED],
            "comparisons": [dataclasses.asdict(one) | {"close": one.close} for one in comparisons],
            "clusters": clusters,
        })  # fmt: skip
        console.print(f"\n{path}")


def main() -> None:
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.paper"))


if __name__ == "__main__":
    main()
