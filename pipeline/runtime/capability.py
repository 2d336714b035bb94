"""Measures how fast each worker is compared with the others: a quick probe in all of its threads, in CPU time.

CPU time distinguishes a slow core from a busy one: another program that takes a core for a moment does not make the worker
slower for the rest of the run.  It does not see what takes cores away for good (a CPU quota, a hypervisor).
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.runtime.membership import WorkerMembership

WINDOWS, WINDOW_SECONDS = 5, 0.03  # the best of several: caches shared with other programs can only slow a worker
BUSY_SECONDS = 3.0  # of waiting for probes, after which `busy` is called
NOISE = 0.2  # a worker this close to what its threads promise counts as exactly that
LEAST_AVAILABLE = 0.6  # of a core for each thread, in the best window: below it the worker's cores are busy


@dataclass(frozen=True)
class ProbeResult:
    """What one worker's threads did in a short time."""

    rate: float  # sorts of 16,384 floats per CPU second of one thread
    available: float  # CPU seconds that a thread got per second, 0 to 1


def window(
    threads: int,
    seconds: float = WINDOW_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
    cpu_clock: Callable[[], float] = time.thread_time,
) -> ProbeResult:
    """Sorts in `threads` threads at once for `seconds` (NumPy releases the GIL while it sorts).

    `clock` is in seconds, `cpu_clock` in CPU seconds of the calling thread.
    """
    numbers = np.random.default_rng(0).random(16_384, dtype=np.float32)
    done, cpu_seconds = [0] * threads, [0.0] * threads
    begin = clock()

    def work(index: int) -> None:
        cpu = cpu_clock()
        while not done[index] or clock() < begin + seconds:
            np.sort(numbers)
            done[index] += 1
        cpu_seconds[index] = cpu_clock() - cpu

    others = [threading.Thread(target=work, args=(index,)) for index in range(1, threads)]
    for other in others:
        other.start()
    work(0)
    for other in others:
        other.join()
    wall, cpu = max(clock() - begin, 1e-9), max(sum(cpu_seconds), 1e-9)
    return ProbeResult(rate=sum(done) / cpu, available=min(1.0, cpu / (threads * wall)))


def probe(threads: int, windows: int = WINDOWS, look: Callable[[int], ProbeResult] = window) -> ProbeResult:
    """Returns the best rate and the best availability of a few short windows; `look`: at one window of the threads."""
    seen = [look(threads) for _ in range(windows)]
    return ProbeResult(max(each.rate for each in seen), max(each.available for each in seen))


def relative(threads: Sequence[int], rates: Sequence[float]) -> tuple[float, ...]:
    """Computes capabilities from the probes' rates of one thread, in threads' worth of the typical worker.

    The typical rate is the median; a worker within 20 % of it counts as its number of threads, so that equal workers
    get equal shares however noisy the probe was.
    """
    known = [max(rate, 1e-9) for rate in rates]
    typical = sorted(known)[(len(known) - 1) // 2]
    speeds = [rate / typical for rate in known]
    return tuple(
        float(count) if abs(speed - 1) <= NOISE else count * speed for count, speed in zip(threads, speeds, strict=True)
    )


def measure(
    membership: WorkerMembership, workers: Sequence[tuple[str, int]], busy: Callable[[], object] = lambda: None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns (capability, availability of a core to each thread, 0 to 1) of each (address, threads).

    A single worker is not probed.  `busy` is called if the probes have to wait because the workers run other tasks.
    """
    threads = [count for _, count in workers]
    if len(workers) < 2:
        return tuple(map(float, threads)), (1.0,) * len(workers)
    tasks = [
        membership.client.submit(probe, count, workers=[address], allow_other_workers=False, pure=False)
        for address, count in workers
    ]
    addresses = [address for address, _ in workers]
    if not membership.wait(tasks, addresses, BUSY_SECONDS):
        busy()
    results: list[ProbeResult] = membership.results(tasks, addresses)
    return relative(threads, [result.rate for result in results]), tuple(result.available for result in results)


def busy_notes(names: Sequence[str], available: Sequence[float]) -> tuple[str, ...]:
    """Returns a note about workers whose cores other programs use at this moment; empty without such workers.

    >>> busy_notes(["0", "1"], [0.99, 0.31])
    ('other programs use the cores of worker 1 now: its threads ran 31% of the time; shares follow its speed in CPU time',)
    """
    least = min(range(len(names)), key=lambda place: available[place], default=None)
    if least is None or available[least] >= LEAST_AVAILABLE:
        return ()
    share = f"its threads ran {available[least]:.0%} of the time"
    return (f"other programs use the cores of worker {names[least]} now: {share}; shares follow its speed in CPU time",)
