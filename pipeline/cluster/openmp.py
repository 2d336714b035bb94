"""Sets the environment of a training process: how many OpenMP threads, and what they do while they wait."""

import os


def environment(threads: int) -> dict[str, str]:
    """Returns variables for a process that trains with `threads` threads; libraries read them as they are loaded.

    OMP_NUM_THREADS: Dask sets 1, or what is set in our own environment, and then XGBoost runs on that many threads
    whatever `nthread` says.  OMP_WAIT_POLICY, unless the user has set it: by default OpenMP's threads spin while they
    wait for each other; on a machine with other programs the spinning thread takes the core from the thread it waits
    for, and rounds take two to ten times as long (benchmarks/openmp_waiting.py; the models are equal).
    """
    waiting = {} if "OMP_WAIT_POLICY" in os.environ else {"OMP_WAIT_POLICY": "PASSIVE"}
    return {"OMP_NUM_THREADS": str(threads), **waiting}
