"""A nanny whose worker process imports nothing of the user's script."""

import asyncio
import contextlib
import importlib.machinery
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import dask
from distributed import Nanny

from pipeline.cluster import openmp
from pipeline.cluster.launchers import fork_server

WORKER_MAIN = "pipeline.cluster.worker_main"
WAIT_SECONDS = 0.05  # between two looks at whether other nannies still start forks


class PlainNanny(Nanny):
    """A nanny whose worker does not import the main script again.

    Spawned processes import it because pickled functions might need it; ours never do, and the import costs time and
    memory in every worker, and a script without `if __name__ == "__main__"` would start a cluster in each.  It also
    sets the variables of `openmp.environment`.  With `forked`, the worker is a fork of the fork server.
    """

    exit_codes: ClassVar[list[int]] = []  # of this process's workers that ended, since the latest cluster was started

    def __init__(self, *args: Any, forked: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.forked = forked
        self.exits: dict[str, int] = {}  # of its workers that ended: address -> exit code
        variables = openmp.environment(self.nthreads)
        self.pre_spawn_env.update(variables)  # for libraries that read it as they are loaded
        self.env.update(variables)

    def _on_worker_exit_sync(self, exitcode: int) -> None:
        self.exits[str(self.worker_address)] = exitcode
        self.exit_codes.append(exitcode)
        super()._on_worker_exit_sync(exitcode)

    async def instantiate(self) -> Any:
        while _FORKING.held and not self.forked:  # the configuration says "fork" to all nannies of this process
            await asyncio.sleep(WAIT_SECONDS)
        with _HIDDEN_MAIN, _FORKING if self.forked else contextlib.nullcontext():
            return await super().instantiate()


class _WhileAny:
    """Holds a context while at least one nanny is inside: nannies start in parallel, and what it changes is the
    process's own."""

    def __init__(self, context: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self._context = context
        self._lock, self._inside, self._held = threading.Lock(), 0, contextlib.ExitStack()

    @property
    def held(self) -> bool:
        return self._inside > 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._held.enter_context(self._context())

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._held.close()


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Makes `worker_main` look like the main module, which new processes import first."""
    main = sys.modules["__main__"]
    kept: dict[str, Any] = {name: vars(main)[name] for name in ("__file__", "__spec__") if name in vars(main)}
    vars(main).pop("__file__", None)
    vars(main)["__spec__"] = importlib.machinery.ModuleSpec(WORKER_MAIN, None)
    try:
        yield
    finally:
        vars(main).update(kept)


_HIDDEN_MAIN = _WhileAny(_main_hidden)
_FORKING = _WhileAny(lambda: dask.config.set({fork_server.METHOD: "forkserver"}))
