"""Sets the environment of a training process: how many OpenMP threads, and what they do while they wait."""

import os

WAITING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
SPINS = "30000"  # some ten microseconds


def environment(threads: int) -> dict[str, str]:
    """Returns variables for a process that trains with `threads` threads; libraries read them as they are loaded.

    OMP_NUM_THREADS: Dask sets 1, or what is set in our own environment, and then XGBoost runs on that many threads
    whatever `nthread` says.  GOMP_SPINCOUNT, unless the user has set how threads wait: by default OpenMP's threads spin
    for long while they wait for each other; on a machine with other programs the spinning thread takes the core from the
    thread it waits for, and rounds take two to ten times as long.  A thread that sleeps at once is late on an idle
    machine; a short spin is as fast as any on both (benchmarks/openmp_waiting.py; the models are equal).
    """
    waiting = {} if os.environ.keys() & WAITING else {"GOMP_SPINCOUNT": SPINS}
    return {"OMP_NUM_THREADS": str(threads), **waiting}
