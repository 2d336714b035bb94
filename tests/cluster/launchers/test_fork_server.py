"""Workers that are forks of the fork server: what they inherit and what not, and that nothing outlives a cluster."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import dask
import distributed  # noqa: F401  # its configuration
import psutil
import pytest

import pipeline
from pipeline.cluster.launchers import fork_server

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks are used on Linux only")

# A process of its own: Python has one fork server, and the tests' process may use it for a shared cluster.
START = """
import os, sys, time, signal
import psutil
from pipeline.config.job import Cluster
from pipeline.run.connect import connect

def parents(client):
    found = client.run(os.getppid).values()
    return sorted("this process" if pid == os.getpid() else "fork server" for pid in found)

def servers():
    return [child for child in psutil.Process().children() if "multiprocessing.forkserver" in " ".join(child.cmdline())]

def until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.05)

two = Cluster(device="cpu", workers=2, threads=1, dashboard=False)
"""


def run(code: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", START + textwrap.dedent(code)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_workers_are_forks_that_have_imported_what_training_needs_and_nothing_is_left() -> None:
    run("""
        with connect(two) as client:
            assert parents(client) == ["fork server", "fork server"]
            [server] = servers()
            memory = server.memory_full_info()
            assert memory.rss > 2 * memory.uss, "the workers do not share its memory"
        assert not servers()
    """)


def test_a_worker_that_replaces_a_lost_one_is_a_fork_too() -> None:
    run("""
        with connect(two) as client:
            before = set(client.run(os.getpid).values())
            os.kill(min(before), signal.SIGKILL)
            until(lambda: len(now := set(client.run(os.getpid, on_error="ignore").values())) == 2 and now != before)
            assert parents(client) == ["fork server", "fork server"]
    """)


@pytest.mark.slow
def test_workers_have_the_variables_of_their_cluster() -> None:
    """Also when these change between two clusters of one process."""
    run("""
        def seen(client, name):
            return set(client.run(lambda: __import__("os").environ.get(name)).values())
        for given in ("a", "b"):
            os.environ["GIVEN"] = given
            with connect(Cluster(device="cpu", workers=1, threads=2 if given == "a" else 1)) as client:
                assert parents(client) == ["fork server"]
                assert seen(client, "GIVEN") == {given}
                assert seen(client, "OMP_NUM_THREADS") == {"2" if given == "a" else "1"}
                assert seen(client, "MALLOC_TRIM_THRESHOLD_") != {None}
                for internal in ("PYTHONSAFEPATH", "PIPELINE_FORK_SERVER", "PIPELINE_WORKER_STDERR"):
                    assert seen(client, internal) == {None}, internal
        assert "OMP_NUM_THREADS" not in os.environ
    """)


def test_a_variable_that_the_user_unsets_for_workers_is_not_set() -> None:
    run("""
        import dask
        with dask.config.set({"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}), connect(two) as client:
            found = client.run(lambda: __import__("os").environ.get("MALLOC_TRIM_THRESHOLD_"))
            assert set(found.values()) == {None}
    """)


@pytest.mark.slow
def test_a_server_that_was_left_to_late_workers_is_ended_by_the_next_cluster() -> None:
    run("""
        from pipeline.cluster.launchers import fork_server
        forks = fork_server._forks
        with connect(two) as client:
            fork_server._forks = lambda: [None]  # as if a worker took its time to end
        fork_server._forks = forks
        [left] = servers()
        with connect(two) as client:
            assert parents(client) == ["fork server", "fork server"]
            assert servers() != [left]
        assert not servers()
    """)


@pytest.mark.slow
def test_forks_of_the_user_write_to_the_users_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", START + textwrap.dedent("""
            import multiprocessing
            if __name__ == "__main__":
                with connect(two) as client:
                    process = multiprocessing.get_context("forkserver").Process(target=os.write, args=(2, b"seen"))
                    process.start()
                    process.join()
        """)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "seen")


EARLY = """
from pipeline.cluster.launchers.fork_server import early_stderr, started_early
from pipeline.run.modules import WARM_UP

def blocked(pid):
    with open(f"/proc/{pid}/status") as file:
        lines = file.read().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigBlk"))
    return {number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM) if mask >> number - 1 & 1}
"""


def test_a_server_that_was_started_early_is_that_of_the_first_cluster() -> None:
    """Its workers are like those of any other: the terminal's signals do not reach them, stderr is their own again."""
    run(
        EARLY
        + """
with started_early(two, WARM_UP):
    [server], folder = servers(), early_stderr()
    with connect(two) as client:
        assert parents(client) == ["fork server", "fork server"]
        assert servers() == [server]
        for pid in (server.pid, *client.run(os.getpid).values()):
            assert blocked(pid) == {signal.SIGHUP, signal.SIGINT}
        assert early_stderr() is None and not folder.exists()
        assert set(client.run(lambda: os.environ.get("PIPELINE_WORKER_STDERR")).values()) == {None}
    assert not servers()
    with connect(two) as client:  # a second cluster starts its own
        assert parents(client) == ["fork server", "fork server"]
assert not servers()
"""
    )


@pytest.mark.slow
def test_a_server_that_was_started_early_in_vain_is_ended() -> None:
    """None is left where no cluster starts, and where the cluster's workers need other variables or no fork server."""
    run(
        EARLY
        + """
import dask
with started_early(two, WARM_UP):
    assert servers()
    folder = early_stderr()
assert not servers() and not folder.exists()
with started_early(two, WARM_UP):
    [server] = servers()
    with connect(Cluster(device="cpu", workers=1, threads=2, dashboard=False)) as client:
        assert parents(client) == ["fork server"]
        assert servers() != [server]
        assert len(servers()) == 1
assert not servers()
with started_early(two, WARM_UP), dask.config.set({"distributed.worker.multiprocessing-method": "fork"}):
    with connect(two) as client:
        assert parents(client) == ["this process", "this process"]
assert not servers()
for other in (Cluster(scheduler="tcp://127.0.0.1:1"), Cluster(device="cuda")):
    with started_early(other, WARM_UP):
        assert not servers()
os.environ["TMPDIR"] = "/none"
__import__("tempfile").tempdir = "/none"
with started_early(two, WARM_UP):
    assert not servers()
"""
    )


def test_the_variables_of_an_early_server_are_those_that_dask_sets() -> None:
    assert dask.config.get("distributed.nanny.pre-spawn-environ") == fork_server.DASK_VARIABLES


def test_the_command_line_starts_one_server(tmp_path: Path) -> None:
    """The early one serves: a second one, for other variables, would cost what the first was to save."""
    (tmp_path / "rows.csv").write_text("x,y\n" + "".join(f"{n},{n % 7}\n" for n in range(400)))
    code = """
import sys
from multiprocessing import forkserver
from pipeline.cluster.launchers import fork_server
spawn, count = fork_server._spawn, []
fork_server._spawn = lambda *args: (count.append(args), spawn(*args))
from pipeline.cli.main import cli
from pipeline.cli.terminal import run
code = run(cli, ["train", "rows.csv", "--target", "y", "--rounds", "2", "--out", "model", "--no-report", "--quiet"])
assert (code, len(count), len(count[0])) == (0, 1, 3), (code, count)  # three: with a folder, so started early
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "model")), done.stderr


def test_xgboost_has_the_threads_of_its_worker() -> None:
    run("""
        def threads():
            import ctypes, xgboost
            return ctypes.CDLL("libgomp.so.1").omp_get_max_threads()
        with connect(Cluster(device="cpu", workers=1, threads=2)) as client:
            assert set(client.run(threads).values()) == {2}
    """)


@pytest.mark.slow
def test_clusters_that_are_open_at_the_same_time_share_it_if_their_variables_are_equal() -> None:
    run("""
        with connect(two) as first:
            with connect(two) as second:
                assert parents(first) == parents(second) == ["fork server", "fork server"]
            with connect(Cluster(device="cpu", workers=1, threads=2, dashboard=False)) as other:
                assert parents(other) == ["this process"]
            os.environ["GIVEN"] = "later"
            with connect(two) as other:
                assert parents(other) == ["this process", "this process"]
            before = set(first.run(os.getpid).values())
            os.kill(min(before), signal.SIGKILL)
            until(lambda: len(now := set(first.run(os.getpid, on_error="ignore").values())) == 2 and now != before)
        with connect(two) as third:
            assert parents(third) == ["fork server", "fork server"]
    """)


@pytest.mark.slow
def test_a_fork_server_that_is_killed_takes_its_workers_along_and_they_come_back() -> None:
    run("""
        with connect(two) as client:
            before = set(client.run(os.getpid).values())
            servers()[0].kill()
            until(lambda: not any(map(psutil.pid_exists, before)))
            until(lambda: len(client.run(os.getpid, on_error="ignore")) == 2)
    """)


@pytest.mark.slow
def test_a_client_that_is_killed_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    code = (
        START
        + """
if __name__ == "__main__":
    with connect(two) as client:
        print(*client.run(os.getpid).values(), *(server.pid for server in servers()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 3
    left = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    assert psutil.wait_procs(left, timeout=30)[1] == []
    assert [path for path in tmp_path.rglob("*") if "listener" in path.name or path.name.startswith("pymp-")] == []


def test_workers_run_the_code_of_their_client(tmp_path: Path) -> None:
    """Also where that is not the installed package: here it is found in the current folder."""
    (tmp_path / "pipeline").symlink_to(Path(pipeline.__file__).parent)
    code = (
        START
        + """
import pipeline
def place():
    import pipeline.training.checkpoint
    return pipeline.__file__, pipeline.training.checkpoint.__file__
with connect(two) as client:
    assert parents(client) == ["fork server", "fork server"]
    found = {file for files in client.run(place).values() for file in files}
    assert {os.path.dirname(os.path.dirname(file)) for file in found} <= {os.getcwd(), os.path.join(os.getcwd(), "pipeline")}, found
    assert set(client.run(lambda: __import__("os").environ.get("PYTHONPATH")).values()) == {None}
"""
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_module_in_the_current_folder_is_not_taken_for_ours(tmp_path: Path) -> None:
    """As for a script that lies elsewhere, like the installed command."""
    script, here = tmp_path / "bin" / "script.py", tmp_path / "here"
    script.parent.mkdir()
    here.mkdir()
    for name in ("gc", "ctypes", "pipeline", "numpy"):
        (here / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    body = 'with connect(two) as client:\n        assert parents(client) == ["fork server", "fork server"]\n'
    script.write_text(f'{START}if __name__ == "__main__":\n    {body}')
    done = subprocess.run([sys.executable, script], cwd=here, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
