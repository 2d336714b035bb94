"""Starts a local cluster within a limit, and explains why one does not start."""

import os
import tempfile
from collections.abc import Callable, Sequence

from distributed import Client

from pipeline.cluster import interrupts
from pipeline.cluster.child_processes import children, kill_children
from pipeline.config.job import Cluster
from pipeline.errors import ClusterError, ClusterStartError

START_SECONDS = 120.0  # for workers to import what they need, from a slow disk on a busy machine
FILES, FILES_PER_WORKER = (
    40,
    12,
)  # that this process has open at the same time, in addition to those before (measured, rounded up)
UNTOLD = ("Nanny failed to start", "failed to start", "Cluster failed to start")  # of Dask's errors that give no reason
LIMITS = "too little memory (ulimit -v, container), too few processes (ulimit -u) or open files (ulimit -n)"


def start_within_limit(
    start: Callable[[], Client],
    undo: Callable[[Client], object],
    meanwhile: Callable[[], object],
    seconds: float = START_SECONDS,
) -> Client:
    """Returns what `start` returns.  ClusterStartError if it takes too long, or no thread can be started for it."""
    before = children()

    def late() -> Exception:
        return ClusterStartError(f"the local cluster did not start within {seconds:g} s: {LIMITS}?")

    limit = interrupts.Limit(seconds, late, lambda: kill_children(spared=before))
    try:
        return interrupts.finish(start, undo, meanwhile, limit)
    except RuntimeError as error:  # of threading
        if "start new thread" not in str(error):
            raise
        raise ClusterStartError(f"the local cluster cannot start: {error}: {LIMITS}") from None


def check_resources(section: Cluster) -> None:
    """Raises ClusterStartError or ClusterError if it is known before that a cluster cannot start: Dask would hang."""
    _check_files(1 if section.workers == "auto" else section.workers)
    if section.local_directory:
        try:
            os.makedirs(section.local_directory, exist_ok=True)
            with tempfile.TemporaryFile(dir=section.local_directory):
                pass
        except OSError as error:
            reason = error.strerror or str(error)
            raise ClusterError(f"cluster.local_directory = {section.local_directory}: not writable: {reason}") from None


def _check_files(workers: int) -> None:
    """Raises the limit of open files as far as needed.  ClusterStartError if that is not allowed."""
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = len(os.listdir("/proc/self/fd")) + FILES + FILES_PER_WORKER * workers
    except (ImportError, OSError):  # not Unix, no /proc
        return
    if resource.RLIM_INFINITY == soft or soft >= needed:
        return
    if hard == resource.RLIM_INFINITY or hard >= needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return
    many = f"{workers} worker{'s' * (workers != 1)}"
    raise ClusterStartError(
        f"the local cluster cannot start: it needs {needed} open files for {many}, and {hard} are allowed (ulimit -n)"
    )


def why(error: BaseException, words: str, exit_codes: Sequence[int]) -> str:
    """Returns one line from what Dask raised, what a worker wrote last, and how workers ended."""
    reasons, seen = [], set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        text = str(at).strip().splitlines()[0] if str(at).strip() else ""
        if not any(untold in text for untold in UNTOLD):
            reasons.append(f"{type(at).__name__}: {text}" if text else type(at).__name__)
        at = at.__cause__ or at.__context__
    ends = [
        f"killed by signal {-code}" if code < 0 else f"ended with code {code}" for code in exit_codes if code != -15
    ]
    said = [f"a worker's process was {ends[0]}".replace("was ended", "ended")] if ends else []
    said += [words] if words else reasons[-1:]
    return f"the local cluster cannot start: {': '.join(said) or type(error).__name__}"
