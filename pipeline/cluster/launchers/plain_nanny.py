"""A nanny whose worker process imports nothing of the user's script."""

import contextlib
import importlib.machinery
import sys
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

from distributed import Nanny

from pipeline.cluster import openmp

WORKER_MAIN = "pipeline.cluster.worker_main"


class PlainNanny(Nanny):
    """A nanny whose worker does not import the main script again.

    Spawned processes import it because pickled functions might need it; ours never do, and the import costs time and
    memory in every worker, and a script without `if __name__ == "__main__"` would start a cluster in each.  It also
    sets the variables of `openmp.environment`.
    """

    exit_codes: ClassVar[list[int]] = []  # of this process's workers that ended, since the latest cluster was started

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.exits: dict[str, int] = {}  # of its workers that ended: address -> exit code
        variables = openmp.environment(self.nthreads)
        self.pre_spawn_env.update(variables)  # for libraries that read it as they are loaded
        self.env.update(variables)

    def _on_worker_exit_sync(self, exitcode: int) -> None:
        self.exits[str(self.worker_address)] = exitcode
        self.exit_codes.append(exitcode)
        super()._on_worker_exit_sync(exitcode)

    async def instantiate(self) -> Any:
        with _hidden_main():
            return await super().instantiate()


# State of the process, like its main module: nannies start in parallel, and the last one restores what was hidden.
_main_lock = threading.Lock()
_main_hidden = 0
_main_kept: dict[str, Any] = {}


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Makes `worker_main` look like the main module, which spawned processes import first."""
    global _main_hidden
    main = sys.modules["__main__"]
    with _main_lock:
        _main_hidden += 1
        if _main_hidden == 1:
            _main_kept.update({name: vars(main)[name] for name in ("__file__", "__spec__") if name in vars(main)})
            vars(main).pop("__file__", None)
            vars(main)["__spec__"] = importlib.machinery.ModuleSpec(WORKER_MAIN, None)
    try:
        yield
    finally:
        with _main_lock:
            _main_hidden -= 1
            if _main_hidden == 0:
                vars(main).update(_main_kept)
                _main_kept.clear()
