"""Defines efficiency: pure arithmetic on seconds per worker.

A region of interest runs on N workers and takes T seconds, the same for all of them.  Worker i computes for u_i of
these; the rest is its overhead C_i = T - u_i (transfer, waiting, other).  P_i is its capability in units of work per
useful second, pi_i = P_i / sum P its share.  C = sum u_i is the total compute time.

    E_raw = (C/N) * sum_i P_i / C_i           [work/s]   the formula with its own units
    E     = (C/N) * sum_i pi_i / C_i          [1]        mean compute time per second of (harmonic mean) overhead
    J     = (sum_i pi_i / C_i) * (sum_i pi_i C_i) >= 1    1 only where all overheads are equal
    PE    = (C/N) / T = E / (E + J)           [1]        parallel efficiency, for equal shares

E has no upper bound, grows when compute gets slower, and is inflated by the worker that waits least: never read
it without J, PE and the seconds behind them.  The same example three ways, with C = 1000 s of total compute on
N = 100 workers of P_i = 2 work/s and C_i = 10 ms.  The source of the formula prints 20; its units give

>>> efficiency_raw([10.0] * 100, [10.0] * 100, [2.0] * 100)        # 10 ms taken for 10 s: mixed units
200.0
>>> round(efficiency_raw([10.0] * 100, [0.010] * 100, [2.0] * 100))  # in SI units: work per second
200000
>>> round(efficiency([10.0] * 100, [0.010] * 100, [2.0] * 100), 9)  # without a unit: 10 s of compute per 10 ms
1000.0
>>> parallel_efficiency([10.0] * 100, 10.010) == 1000 / 1001
True

Sources: POP Centre of Excellence, "POP Standard Metrics for Parallel Performance Analysis" (LB, SerE, TE, CommE, CompS,
GE); Karp and Flatt, CACM 33(5), 1990; Gunther, "Guerrilla Capacity Planning", 2007 (USL).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

FLOOR_SECONDS = 1e-6  # smaller overheads cannot be measured: E would be noise

Seconds = Sequence[float]


@dataclass(frozen=True)
class Figures:
    """All figures of one region on N workers."""

    seconds: float  # T
    E_raw: float | None  # work per second; None: saturated
    E: float | None  # None: saturated
    E_comm: float | None  # E with C_i = transfer alone; None: there is no transfer, or it is below the floor
    J: float | None  # None: saturated
    PE: float
    PE_pi: float  # PE weighted by capability
    LB: float  # load balance
    SerE: float  # serialisation efficiency
    TE: float  # transfer efficiency
    CommE: float  # communication efficiency, SerE * TE
    saturated: bool  # an overhead is below the clock's floor: E has no value, PE has
    identity_error: float  # |PE_pi - E / (E + J (C/N) / u_pi)|; checks the arithmetic, not the measurement


def figures(seconds: float, useful: Seconds, transfer: Seconds, capability: Sequence[float]) -> Figures:
    """All figures of a region of `seconds` (T) from every worker's useful and transfer seconds and its capability.

    Works for measured and for predicted values.  ValueError where the sequences differ in length, are empty, or a
    value is negative or not finite.
    """
    _check(seconds, useful, transfer, capability)
    overhead = [max(0.0, seconds - u) for u in useful]
    saturated = min(overhead) < FLOOR_SECONDS
    e = j = raw = None
    pe_pi = parallel_efficiency_weighted(useful, seconds, capability)
    error = 0.0
    if not saturated:
        e, raw = efficiency(useful, overhead, capability), efficiency_raw(useful, overhead, capability)
        j = imbalance(overhead, capability)
        error = abs(pe_pi - weighted_from_efficiency(e, j, useful, capability))
    on_path = critical_transfer(seconds, useful, transfer)
    return Figures(
        seconds=seconds,
        E_raw=raw,
        E=e,
        E_comm=efficiency(useful, transfer, capability) if min(transfer) >= FLOOR_SECONDS else None,
        J=j,
        PE=parallel_efficiency(useful, seconds),
        PE_pi=pe_pi,
        LB=load_balance(useful),
        SerE=serialisation_efficiency(useful, seconds, on_path),
        TE=transfer_efficiency(seconds, on_path),
        CommE=communication_efficiency(useful, seconds),
        saturated=saturated,
        identity_error=error,
    )


def shares(capability: Sequence[float]) -> list[float]:
    """pi_i = P_i / sum P [1]."""
    total = math.fsum(capability)
    return [value / total for value in capability]


def efficiency_raw(useful: Seconds, overhead: Seconds, capability: Sequence[float]) -> float:
    """E_raw = (C/N) * sum_i P_i / C_i [work/s], all overheads > 0."""
    return _mean(useful) * math.fsum(p / c for p, c in zip(capability, overhead, strict=True))


def efficiency(useful: Seconds, overhead: Seconds, capability: Sequence[float]) -> float:
    """E = (C/N) * sum_i pi_i / C_i [1], all overheads > 0."""
    return efficiency_raw(useful, overhead, shares(capability))


def imbalance(overhead: Seconds, capability: Sequence[float]) -> float:
    """J = (sum_i pi_i / C_i) * (sum_i pi_i C_i) [1] >= 1: arithmetic over harmonic mean of the overheads."""
    pi = shares(capability)
    harmonic = math.fsum(p / c for p, c in zip(pi, overhead, strict=True))
    return harmonic * math.fsum(p * c for p, c in zip(pi, overhead, strict=True))


def parallel_efficiency(useful: Seconds, seconds: float) -> float:
    """PE = (C/N) / T [1]: the share of all worker-seconds that computes (POP's and TALP's parallel efficiency)."""
    return _mean(useful) / seconds


def parallel_efficiency_weighted(useful: Seconds, seconds: float, capability: Sequence[float]) -> float:
    """PE_pi = u_pi / T [1]: the share of the cluster's capability that computes; (sum P) * PE_pi is its throughput.

    The same as E / (E + J (C/N) / u_pi), for sum_i pi_i C_i = T - u_pi.
    """
    return weighted_useful(useful, capability) / seconds


def weighted_useful(useful: Seconds, capability: Sequence[float]) -> float:
    """u_pi = sum_i pi_i u_i [s]."""
    return math.fsum(p * u for p, u in zip(shares(capability), useful, strict=True))


def weighted_from_efficiency(e: float, j: float, useful: Seconds, capability: Sequence[float]) -> float:
    """PE_pi = E / (E + J * (C/N) / u_pi), for any shares; 0 where nothing was useful."""
    u_pi = weighted_useful(useful, capability)
    return e / (e + j * _mean(useful) / u_pi) if u_pi > 0 else 0.0


def load_balance(useful: Seconds) -> float:
    """LB = mean u / max u [1]; 1 where no worker computes."""
    return _mean(useful) / max(useful) if max(useful) > 0 else 1.0


def critical_transfer(seconds: float, useful: Seconds, transfer: Seconds) -> float:
    """x* [s]: transfer on the critical path.

    A collective ends for all workers when it ends for the last, and the worker that computes longest meets peers that
    are already waiting: its time in the collectives is transfer alone.  The least of the workers' transfer times is
    that worker's, or a lower bound for every worker.  More than T - max u cannot be exposed: where separate
    measurements exceed it, their closure error shows that, and the factors still multiply.
    """
    return min(*transfer, max(0.0, seconds - max(useful)))


def transfer_efficiency(seconds: float, on_path: float) -> float:
    """TE = (T - x*) / T [1]: the share of the time that would remain on an infinitely fast network."""
    return (seconds - on_path) / seconds


def serialisation_efficiency(useful: Seconds, seconds: float, on_path: float) -> float:
    """SerE = max u / (T - x*) [1]: CommE on an infinitely fast network."""
    return max(useful) / (seconds - on_path) if seconds > on_path else 1.0


def communication_efficiency(useful: Seconds, seconds: float) -> float:
    """CommE = max u / T = SerE * TE [1]; PE = LB * CommE."""
    return max(useful) / seconds


def global_efficiency(base_seconds: float, base_cores: int, seconds: float, cores: int) -> float:
    """GE = T_base * cores_base / (T_N * cores_N) [1].

    With one worker as the base this is PE * CompS = T_1 / (N T_N).  Against the best single process on the same cores
    it is T_single / T_N (McSherry, Isard and Murray, "Scalability! But at what COST?", HotOS 2015).
    """
    return base_seconds * base_cores / (seconds * cores)


def karp_flatt(speedup: float, workers: int) -> float | None:
    """e = (1/S - 1/N) / (1 - 1/N) [1]: the experimentally determined serial fraction; None for one worker."""
    return None if workers == 1 else (1 / speedup - 1 / workers) / (1 - 1 / workers)


@dataclass(frozen=True)
class Usl:
    """The Universal Scalability Law: S(N) = N / (1 + sigma (N - 1) + kappa N (N - 1))."""

    sigma: float  # contention: replicated compute and bandwidth
    kappa: float  # coherency: latency

    def speedup(self, workers: float) -> float:
        return workers / (1 + self.sigma * (workers - 1) + self.kappa * workers * (workers - 1))

    def serial_fraction(self, workers: float) -> float:
        """Karp-Flatt's e(N) = sigma + kappa N: a straight line whose intercept is replicated work and bandwidth."""
        return self.sigma + self.kappa * workers


def usl(divisible: float, replicated: float, latency: float, payload_seconds: float) -> Usl:
    """USL parameters of T(N) = W/N + s + 2(N-1)A + 2B(N-1)/N, a textbook ring (all in seconds per round).

    W divisible and s replicated compute, A the sum of latencies over the collectives, B the sum of their payloads times
    the time per byte.  With T_1 = W + s: sigma = (s + 2B) / T_1, kappa = 2A / T_1.
    """
    alone = divisible + replicated
    return Usl(sigma=(replicated + 2 * payload_seconds) / alone, kappa=2 * latency / alone)


def _mean(values: Seconds) -> float:
    return math.fsum(values) / len(values)


def _check(seconds: float, useful: Seconds, transfer: Seconds, capability: Sequence[float]) -> None:
    if not len(useful) == len(transfer) == len(capability) > 0:
        raise ValueError(
            f"lengths differ: {len(useful)} useful, {len(transfer)} transfer, {len(capability)} capability"
        )
    values = [seconds, *useful, *transfer, *capability]
    if not all(math.isfinite(value) and value >= 0 for value in values) or seconds <= 0 or min(capability) <= 0:
        raise ValueError("seconds and capabilities have to be finite, T and capabilities above 0")
