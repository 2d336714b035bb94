"""Simulates clusters that are not available, with the model that was checked on the one available machine.

Presets of interconnects, of computers and of workloads, each with the source of its numbers, and with the assumptions
made where no source was found; `machine` combines two of them into the input of `cost.predict`.  benchmarks/paper.py
compares such predictions with published measurements.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from pipeline.efficiency import cost
from pipeline.efficiency.cost import Workload
from pipeline.efficiency.machine import Coefficients, Fill, Machine, Ring, Table

# Every node splits, and 0.3 of its rows go to the smaller child, whatever the data.
FULL_TREES = Fill(constant=50.0, rows=0.0, round=0.0, level=0.0, features=0.0, smaller=(0.3, 0.0, 0.0, 0.0, 0.0))
LAUNCH_SECONDS = 6e-6  # of a NCCL call, in addition to its steps: nccl-tests issue 123, 10 us on 2 GPUs to 33.7 us on 8
TABLED_GPUS = 64  # beyond, NCCL's 2N - 2 steps and XGBoost's 2N - 1 are the same to 1 %
TABLE_NBYTES = 1 << 24  # arbitrary: between the table's two ends and beyond them the model is a straight line
BIN_FEATURE = 256


@dataclass(frozen=True)
class Interconnect:
    """The network between the workers, as a ring uses it."""

    name: str
    alpha: float  # seconds of a step: a small message, one way, through the software that sends it
    beta: float  # seconds a byte: the rate that large messages reach, not the nominal rate
    source: str

    def allreduce_seconds(self, nbytes: float, workers: int, device: Literal["cpu", "cuda"]) -> float:
        """One allreduce: XGBoost's own ring over sockets (2N - 1 steps) or NCCL's (2N - 2, and a launch)."""
        if workers == 1:
            return 0.0
        if device == "cpu":
            return Ring(self.alpha, self.beta).seconds(nbytes, workers)
        return LAUNCH_SECONDS + (2 * workers - 2) * (self.alpha + nbytes * self.beta / workers)


ETHERNET_10G = Interconnect(
    "10 Gbit/s Ethernet", 50e-6, 1 / (0.97 * 1.25e9),
    "alpha: half of netperf's TCP_RR between virtual machines of one Google zone, 97 to 133 us "
    "(gist BenTheElder/8ad343913fbe876e219a, 2015). beta: 97 % of the line, as 31.0 of 32 Gbit/s (NVIDIA/nccl issue 209)",
)  # fmt: skip
ETHERNET_100G = Interconnect(
    "100 Gbit/s Ethernet", 20e-6, 1 / 5e9,
    "alpha: assumed, TCP on hosts of one's own. beta: 4 to 6 GB/s of 12.5 over TCP (NVIDIA/nccl issue 450)",
)  # fmt: skip
INFINIBAND_FDR = Interconnect(
    "InfiniBand FDR", 2e-6, 1 / (0.93 * 6.75e9),
    "RDMA, 54 Gbit/s; alpha and the share of the line as 40 Gbit/s with kernel bypass: 1.93 us, 37.23 Gbit/s (Cisco "
    "blog, MPI over 40Gb Ethernet); XGBoost's CPU ring is TCP and cannot use RDMA, NCCL and MPI can",
)  # fmt: skip
NVLINK = Interconnect(
    "NVLink", 2e-6, 1 / 200e9,
    "alpha: DGX A100, 33.7 us on 8 GPUs less 10 us on 2, over 12 steps (NVIDIA/nccl-tests issue 123). beta: about "
    "200 GB/s bus bandwidth on 8 A100 (nccl-tests issue 149)",
)  # fmt: skip
PCIE = Interconnect(
    "PCIe", 3.5e-6, 1 / 4.88e9,
    "4 GPUs of one host: 349 us for 1 MiB, 2605 us for 8 MiB, 4.88 GB/s bus bandwidth (NVIDIA/nccl issue 445)",
)  # fmt: skip
INTERCONNECTS = (ETHERNET_10G, ETHERNET_100G, INFINIBAND_FDR, NVLINK, PCIE)


@dataclass(frozen=True)
class ReferenceRun:
    """A measured time to which a computer's coefficients are scaled."""

    workload: Workload
    seconds: float  # of a round
    interconnect: Interconnect | None = None  # None: one worker


@dataclass(frozen=True)
class Computer:
    """One worker."""

    name: str
    device: Literal["cpu", "cuda"]
    threads: int
    coefficients: Coefficients  # scaled to the base, if there is one
    source: str
    base: ReferenceRun | None = None

    def measured(self, workload: Workload, seconds: float, interconnect: Interconnect | None = None) -> "Computer":
        """The same computer, at the speed that this measurement implies."""
        return dataclasses.replace(self, base=ReferenceRun(workload, seconds, interconnect))


def higgs(workers: int = 1, rows: int = 11_000_000, depth: int = 8) -> Workload:
    """HIGGS of the UCI repository: 11 M rows, 28 numbers each."""
    return _workload(rows, 28, workers, depth)


def criteo(workers: int = 1) -> Workload:
    """Ten days of Criteo's click logs with 26 categories as rates and counts, as LightGBM's experiments have them.

    255 leaves grown best first, 255 bins a feature.  (https://lightgbm.readthedocs.io/en/latest/Experiments.html)
    """
    whole = _workload(1_700_000_000, 67, workers, depth=0)
    return dataclasses.replace(whole, growth="lossguide", max_leaves=255, bins=67 * 255)


def wide(workers: int = 1) -> Workload:
    """100,000 rows of 1,000 random numbers: the workload of XGBoost's issue 8986."""
    return _workload(100_000, 1000, workers, depth=6)


def _workload(rows: int, features: int, workers: int, depth: int) -> Workload:
    return Workload((rows,), features, BIN_FEATURE * features, depth).on(workers, rows)


_THREAD = Coefficients(row_feature=0.8e-9, row_split=4.3e-9, row=2e-9, bin_node=11.5e-9, tree=23e-6)
_GPU = Coefficients(row_feature=0.09e-9, row_split=0.14e-9, bin_node=0.1e-9, tree=8e-3)
_T4_SLOWER = 900 / 320  # GB/s of memory

THREAD = Computer(
    "one thread", "cpu", 1, _THREAD,
    "XGBoost 3.4, 21 configurations on one core of a server (mean error 4.6 %); caches left out",
)  # fmt: skip
SERVER = Computer(
    "16 threads", "cpu", 16, _THREAD,
    "one thread's proportions, as fast as 16 threads on 2 x E5-2690 v4: XGBoost's hist on Higgs, 10.5 M rows, 255 "
    "leaves, 165.575 s for 500 rounds (LightGBM, Experiments.rst, 2020)",
    ReferenceRun(dataclasses.replace(higgs(1, 10_500_000, 0), growth="lossguide", max_leaves=255), 165.575 / 500),
)  # fmt: skip
V100 = Computer(
    "V100", "cuda", 1, _GPU,
    "GBM-perf issue 57: 100 rounds of depth 10 on 8 values a row, 0.8 s with 100 k rows, 1.6 s with 1 M, 5 s with 10 M; "
    "how its 3.8 ns a row are shared by histograms and splits, and the time of a bin, are assumed",
)  # fmt: skip
T4 = Computer(
    "T4", "cuda", 1,
    Coefficients(**{name: value * _T4_SLOWER for name, value in dataclasses.asdict(_GPU).items()}),
    "the V100's, slower by the ratio of their memories' bandwidths, 900 to 320 GB/s: assumed",
)  # fmt: skip
COMPUTERS = (THREAD, SERVER, V100, T4)


def machine(computer: Computer, interconnect: Interconnect) -> Machine:
    """The machine of any number of such computers, all alike, joined by this interconnect; every tree is assumed to
    be full.
    """
    made = _machine(computer, interconnect)
    if computer.base is None:
        return made
    base = computer.base
    predicted = cost.predict(_machine(computer, base.interconnect or interconnect), _for(computer, base.workload))
    left = base.seconds - predicted.splits[0].transfer
    if left <= 0:
        raise ValueError(f"{base.seconds} s a round leave no time for computing: its collectives alone take longer")
    factor = left / max(split.useful for split in predicted.splits)
    scaled = {name: value * factor for name, value in dataclasses.asdict(computer.coefficients).items()}
    return dataclasses.replace(made, coefficients=Coefficients(**scaled))


def _machine(computer: Computer, interconnect: Interconnect) -> Machine:
    return Machine(
        fingerprint=f"on paper: {computer.name}, {interconnect.name}",
        made="",
        device=computer.device,
        threads=computer.threads,
        coefficients=computer.coefficients,
        capabilities=(1 / computer.coefficients.row_feature,),
        collectives=_tables(interconnect) if computer.device == "cuda" else {},
        ring=Ring(interconnect.alpha, interconnect.beta),
        fill=FULL_TREES,
        dask_task_seconds=0.0,
        dask_bytes_per_second=0.0,
        spread=0.0,
        seconds=0.0,
    )


def _tables(interconnect: Interconnect) -> dict[int, Table]:
    ends = (0, TABLE_NBYTES)
    return {
        count: tuple((nbytes, interconnect.allreduce_seconds(nbytes, count, "cuda")) for nbytes in ends)
        for count in range(2, TABLED_GPUS + 1)
    }


def _for(computer: Computer, workload: Workload) -> Workload:
    """The workload on such a device: GPUs exchange more nodes at once."""
    return dataclasses.replace(workload, device=computer.device)


@dataclass(frozen=True)
class Simulation:
    """One workload on a number of workers."""

    workers: int
    seconds: float  # of a round
    useful: float  # of these seconds, computing
    transfer: float
    efficiency: float | None  # E
    parallel_efficiency: float  # PE: replicated work counts as useful
    bytes_sent: int  # a round, by rank 0


def simulate(made: Machine, workload: Workload) -> Simulation:
    """A round of the workload on such machines."""
    predicted = cost.predict(made, dataclasses.replace(workload, device=made.device))
    return Simulation(
        workload.workers,
        predicted.seconds,
        predicted.splits[0].useful,
        predicted.splits[0].transfer,
        predicted.figures.E,
        predicted.figures.PE,
        predicted.bytes_estimate[0],
    )
