"""Checks that a running scheduler and its workers have the same versions and the same code, and can import it.

The functions sent to them are pickled by value and raise nothing: a process without this package could not unpickle a
reference to it, and Dask may close a process that fails to import it in a task or a plugin, which harms all users.
"""

import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distributed import Client

from pipeline.cluster.deadline import call_with_deadline
from pipeline.errors import ClusterError

ANSWER_SECONDS = 120.0  # for all workers to import the package, from a slow disk on a busy machine
VERSIONS = ("python", "distributed", "numpy", "pyarrow", "xgboost", "pipeline")
CODE, IMPORT = "code", "import"  # other keys of an answer: a hash of the package's files; why it cannot be imported
SHOWN_DIGITS = 8
PACKAGE = "dask-train-pipeline"

Answer = Mapping[str, str | None]


def check_same(client: Client, address: str, modules: Sequence[str] = ()) -> None:
    """Raises ClusterError unless the scheduler at `address` and all its workers have this package in this version.

    `modules`: modules of it that they must be able to import.
    """
    ours = local_answer()
    scheduler, workers = _answers(client, address, tuple(modules))
    lacking: dict[str, list[str]] = {}
    for worker, theirs in workers.items():
        for text in _differences(ours, theirs):
            lacking.setdefault(text, []).append(worker)
    problems = [f"{text} on {len(at)} of {len(workers)} workers, e.g. {at[0]}" for text, at in lacking.items()]
    problems += [f"{text} on the scheduler" for text in _differences(ours, scheduler)]
    if problems:
        who = "workers" if lacking else "the scheduler"
        who += " and the scheduler" if lacking and len(problems) > len(lacking) else ""
        raise ClusterError(
            f"{who} of {address} do{'' if lacking else 'es'} not match: {'; '.join(problems)}: {_install()}"
        )


def _install() -> str:
    """Returns advice on how to install the package there."""
    return f"install {package()} there, as here, and restart them (pip install)"


def package() -> str:
    """Returns the package as pip knows it, with its version; without one if it is a folder on the path."""
    try:
        return f"{PACKAGE} {importlib.metadata.version(PACKAGE)}"
    except importlib.metadata.PackageNotFoundError:
        return PACKAGE


def _differences(ours: Answer, theirs: Answer) -> list[str]:
    """Returns what does not match in another process, a few words each; only the first if it explains the others.

    >>> here = {"python": "3.13", "pipeline": "1.0", "code": "abc", "import": None}
    >>> _differences(here, here), _differences(here, {**here, "pipeline": None, "code": None, "import": "x"})
    ([], ['pipeline not installed (here 1.0)'])
    """
    found = []
    for name in VERSIONS:
        if theirs.get(name) != ours.get(name):
            found.append(f"{name} {theirs.get(name) or 'not installed'} (here {ours.get(name)})")
    if found:
        return found
    if theirs.get(IMPORT):
        return [f"pipeline cannot be imported ({theirs[IMPORT]})"]
    if theirs.get(CODE) != ours.get(CODE):
        here, there = ((str(one.get(CODE)) or "none")[:SHOWN_DIGITS] for one in (ours, theirs))
        return [f"the code of pipeline differs from here, under the same version (hash {there}, here {here})"]
    return []


def _answers(client: Client, address: str, modules: tuple[str, ...]) -> tuple[Answer, Mapping[str, Answer]]:
    """Returns the answers of the scheduler and of each worker.  ClusterError if one does not answer in time."""
    found: dict[str, Any] = {}

    def ask(key: str, question: Callable[[], Any]) -> Callable[[], None]:
        def work() -> None:
            try:
                found[key] = question()
            except Exception as error:  # of the connection or raised over there: the caller reports it
                found[key] = error

        return work

    begin = time.monotonic()
    call_with_deadline(
        ANSWER_SECONDS,
        "check code",
        ask("scheduler", lambda: client.run_on_scheduler(_look, modules)),
        ask("workers", lambda: client.run(_look, modules, on_error="return")),
    )
    for key in ("scheduler", "workers"):
        if key not in found:
            raise ClusterError(f"{address}: the {key} did not answer within {time.monotonic() - begin:.0f} s")
        if isinstance(found[key], Exception):
            raise ClusterError(f"{address}: a call to the {key} failed: {type(found[key]).__name__}: {found[key]}")
    there = {}
    for worker, one in found["workers"].items():
        if isinstance(one, dict):
            there[worker] = one
        elif not isinstance(one, OSError):  # otherwise it has just left
            raise ClusterError(f"{address}: a call to the worker {worker} failed: {type(one).__name__}: {one}")
    return found["scheduler"], there


def local_answer() -> Answer:
    """Returns what this process answers: its versions and the hash of its code."""
    return _versions_and_code()


async def _look(modules: tuple[str, ...]) -> dict[str, str | None]:
    """Runs on a worker or the scheduler; imports in a thread, because other users share their event loops."""
    import asyncio
    import importlib

    def load() -> str | None:
        try:
            for module in modules:
                importlib.import_module(module)
        except BaseException as error:  # SystemExit would end the process
            lines = str(error).strip().splitlines()
            return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return None

    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(None, _versions_and_code)
    if found["pipeline"] is not None:
        found["import"] = await loop.run_in_executor(None, load)
    return found


def _versions_and_code() -> dict[str, str | None]:
    """Returns versions that must be the same on every side, None for what is not installed, and a hash of our code."""
    import hashlib
    import importlib.metadata
    import importlib.util
    import pathlib
    import platform

    found: dict[str, str | None] = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in ("distributed", "numpy", "pyarrow", "xgboost", "pipeline"):
        found[package] = None
        if importlib.util.find_spec(package) is not None:
            names = {"pipeline": "dask-train-pipeline"}
            try:
                found[package] = importlib.metadata.version(names.get(package, package))
            except importlib.metadata.PackageNotFoundError:
                found[package] = "without a version"  # a folder on the path, not an installed package
    spec = importlib.util.find_spec("pipeline")
    digest = hashlib.sha256()
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(pathlib.Path(folder).rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            try:
                digest.update(path.read_bytes() + b"\0")
            except OSError:
                digest.update(b"unreadable\0")
    found["code"], found["import"] = digest.hexdigest(), None
    return found


# Functions of `__main__` are pickled by value.
_look.__module__ = _versions_and_code.__module__ = "__main__"
