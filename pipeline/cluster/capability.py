"""How fast each worker is compared with the others: a quick probe under all of its threads."""

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.cluster.members import Members

WINDOWS, WINDOW_SECONDS = 5, 0.03  # the best of several: other programs only ever make a worker look slower
BUSY_SECONDS = 3.0  # after which whoever waits for probes wants to know why
NOISE = 0.2  # a worker this close to what its threads promise counts as exactly that


def probe(threads: int) -> float:
    """The best rate of a few short windows."""
    return max(window(threads) for _ in range(WINDOWS))


def window(threads: int, seconds: float = WINDOW_SECONDS, clock: Callable[[], float] = time.perf_counter) -> float:
    """Sorts of 16,384 floats per second, done in so many threads at once (NumPy lets go of the interpreter there)."""
    numbers = np.random.default_rng(0).random(16_384, dtype=np.float32)
    done = [0] * threads
    stop = clock() + seconds

    def work(index: int) -> None:
        while clock() < stop:
            np.sort(numbers)
            done[index] += 1

    begin = clock()
    others = [threading.Thread(target=work, args=(index,)) for index in range(1, threads)]
    for other in others:
        other.start()
    work(0)
    for other in others:
        other.join()
    return sum(done) / max(clock() - begin, 1e-9)


def relative(threads: Sequence[int], rates: Sequence[float]) -> tuple[float, ...]:
    """Capabilities from the probes' rates, in threads' worth of the typical worker.

    The typical rate per thread is the median; a worker within 20 % of it counts as its number of threads, so that
    equal workers get equal shares however noisy the probe was.
    """
    per_thread = [max(rate, 1e-9) / count for count, rate in zip(threads, rates, strict=True)]
    typical = sorted(per_thread)[(len(per_thread) - 1) // 2]
    speeds = [speed / typical for speed in per_thread]
    return tuple(
        float(count) if abs(speed - 1) <= NOISE else count * speed for count, speed in zip(threads, speeds, strict=True)
    )


def measure(
    members: Members, workers: Sequence[tuple[str, int]], busy: Callable[[], object] = lambda: None
) -> tuple[float, ...]:
    """The capability of each (address, threads); a single worker is not probed.

    `busy` is called where the probes have to wait: the workers have something else to do.
    """
    threads = [count for _, count in workers]
    if len(workers) < 2:
        return tuple(map(float, threads))
    tasks = [
        members.client.submit(probe, count, workers=[address], allow_other_workers=False, pure=False)
        for address, count in workers
    ]
    addresses = [address for address, _ in workers]
    if not members.wait(tasks, addresses, BUSY_SECONDS):
        busy()
    return relative(threads, members.results(tasks, addresses))
