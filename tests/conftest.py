"""Fixtures for every package's tests: real data, one shared cluster, and what `@pytest.mark.gpu` means."""

import functools
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling
from xdist.scheduler.protocol import Scheduling

# No test asserts a time: on a busy machine an example takes as long as it takes.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")

pytest_plugins = ["tests.models"]  # small trained models, for the tests of several packages

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the real data sets: PIPELINE_DATA, or shared/data next to the checkout."""
    folder = Path(os.environ.get("PIPELINE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set PIPELINE_DATA")
    return folder


@functools.cache
def _why_no_gpu() -> str | None:
    from pipeline.cluster.devices import probe_gpu

    return probe_gpu().reason_unusable


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process is left with one of them at the end.

    Also where the slow tests are left out: these files are long without them, too.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)  # stable


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return FilesTogether(config, log)


class FilesTogether(LoadScopeScheduling):
    """Gives each process whole files, whose tests share clusters and models, in the order of collection.

    The faults are as long as everything else together: each kind of cluster is a unit of its own.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        kind = re.search(r"\[(local|processes)-", name) if file.endswith("chaos/test_faults.py") else None
        return f"{file} {kind[1]}" if kind else file


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`@pytest.mark.gpu` marks and skips in one, so that no GPU test fails, or is forgotten, for want of a skip."""
    if item.get_closest_marker("gpu") and (reason := _why_no_gpu()):
        pytest.skip(f"no usable GPU: {reason}")


def pytest_fixture_setup() -> None:
    _name_no_test()


def pytest_pyfunc_call() -> None:
    _name_no_test()


def _name_no_test() -> None:
    """Clusters share a fork server if their environments are equal, and pytest writes the test's name into ours."""
    os.environ["PYTEST_CURRENT_TEST"] = "a test"


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Shells start background jobs with Ctrl-C ignored, and children inherit that; the tests interrupt theirs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Audits of the tests' runs are not added to the user's history."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_process_left() -> Iterator[None]:
    """Fails the session if a process that the tests started outlives them."""
    yield
    me = psutil.Process()
    left = [process for process in me.children(recursive=True) if not _expected(process)]
    _, left = psutil.wait_procs(left, timeout=10)
    assert not left, f"processes left behind: {[_describe(process) for process in left]}"


def _expected(process: psutil.Process) -> bool:
    """multiprocessing's resource tracker and fork server live as long as the interpreter does."""
    return any(name in _describe(process) for name in ("resource_tracker", "forkserver"))


def _describe(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return f"process {process.pid}, gone"


@pytest.fixture
def worker_session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Lets tasks that a test calls itself keep things: they find this session instead of a worker's."""
    from pipeline.runtime import worker_session

    session = worker_session.WorkerSession()
    worker = SimpleNamespace(plugins={worker_session.NAME: session})
    monkeypatch.setattr(worker_session, "current_worker", lambda: worker)
    yield session
    for run, _ in session.contents():
        session.close(run)


@pytest.fixture(scope="session")
def shared_clusters() -> dict[tuple[int, int], Any]:
    """The clients of the clusters that `make_cluster` has started, by workers and threads."""
    return {}


@pytest.fixture(scope="module", autouse=True)
def nothing_kept_on_shared_clusters(shared_clusters: dict[tuple[int, int], Any]) -> Iterator[None]:
    """Fails the module whose tests leave state of a run on the workers of a shared cluster."""

    def kept() -> set[tuple[str, str]]:
        from pipeline.runtime.worker_session import contents_on

        found = [client.run(contents_on) for client in shared_clusters.values()]
        return {(run, what) for answers in found for contents in answers.values() for run, what, _ in contents}

    before = kept()
    yield
    assert kept() - before == set()


@pytest.fixture(scope="session")
def make_cluster(
    no_process_left: None, shared_clusters: dict[tuple[int, int], Any]
) -> Iterator[Callable[[int, int], Any]]:
    """`make_cluster(workers, threads)` -> a distributed.Client; each size is started once and shared by all tests.

    Do not close it, and do not kill its workers: a test that breaks a cluster opens its own.
    """
    from contextlib import ExitStack

    from pipeline.config.job import Cluster
    from pipeline.run.connect import connect

    with ExitStack() as stack:
        stack.callback(shared_clusters.clear)

        def start(workers: int, threads: int = 1) -> Any:
            size = workers, threads
            if size not in shared_clusters:
                cluster = Cluster(device="cpu", workers=workers, threads=threads)
                shared_clusters[size] = stack.enter_context(connect(cluster))
            return shared_clusters[size]

        yield start


@pytest.fixture(scope="session")
def client(make_cluster: Callable[[int, int], Any]) -> Any:
    """A client of a local cluster of two workers with one thread each."""
    return make_cluster(2, 1)
