"""Computes the Universal Scalability Law of a workload on a machine: the cost of its round in two numbers.

XGBoost's ring takes 2N - 1 steps where a textbook's takes 2 (N - 1): T(N) = W/N + s + (2N-1) A + (2N-1) B / N, and so
N T(N) = T_1 (1 + sigma (N-1) + kappa N (N-1)) + A + B with sigma = (s + 2B + A) / T_1 and kappa = 2A / T_1.  The last
A + B, present with two workers and more, adds (A + B) / (T_1 (N-1)) to Karp-Flatt's e(N) = sigma + kappa N, and fades.
"""

import dataclasses

from pipeline.efficiency.cost import Workload, calls, expected_tree, replicated_seconds, work
from pipeline.efficiency.definitions import Usl, usl
from pipeline.efficiency.machine import Machine


@dataclasses.dataclass(frozen=True)
class Costs:
    """The terms of the law, in seconds a round."""

    divisible: float  # W: compute that shrinks with the workers
    replicated: float  # s: compute that every worker repeats
    latency: float  # A: of all collectives, one step of each
    payload: float  # B: of all collectives, their bytes times the time of a byte


def costs(machine: Machine, workload: Workload) -> Costs:
    """The costs of all rows of the workload, on typical workers joined by the machine's ring."""
    together = workload.on(max(2, workload.workers), workload.total_rows)
    tree = expected_tree(workload, machine.fill)
    alone = machine.coefficients.seconds(work(workload.total_rows, workload, tree))
    replicated = replicated_seconds(machine, workload)
    exchanges = calls(together, tree)
    return Costs(
        divisible=alone - replicated,
        replicated=replicated,
        latency=len(exchanges) * machine.ring.alpha,
        payload=sum(call.nbytes for call in exchanges) * machine.ring.beta,
    )


def law(machine: Machine, workload: Workload) -> Usl:
    """The law's sigma and kappa for the workload: strong scaling over any number of workers."""
    found = costs(machine, workload)
    textbook = usl(found.divisible, found.replicated, found.latency, found.payload)
    redundant = found.latency / (found.divisible + found.replicated)
    return dataclasses.replace(textbook, sigma=textbook.sigma + redundant)
