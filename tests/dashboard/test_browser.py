"""The pages in a browser: a training is followed to its end, and a recorded run is looked at."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from distributed import Worker, WorkerPlugin

import pipeline
from pipeline.config.job import Job
from pipeline.dashboard import lazy
from pipeline.dashboard.pages.registry import PAGES
from pipeline.events.recording import line_of
from pipeline.events.types import Event
from pipeline.run.connect import connect
from tests.dashboard import browser, recorded
from tests.dashboard.browser import Browser, until

ROOT = Path(__file__).resolve().parents[2]
WIDE, NARROW = 1280, 600
TRAINING, EFFICIENCY, TEAM = (page.route for page in PAGES)
OVER = "The run has ended, and its server has stopped"


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Browser]:
    if reason := browser.missing():
        if os.environ.get("PIPELINE_BROWSER") == "required":  # as CI says
            pytest.fail(reason)
        pytest.skip(reason)
    with browser.chromium(tmp_path / "profile") as tab:
        yield tab


class Slow(WorkerPlugin):
    """Has rounds take a fifth of a second longer as long as a file is there: a page has to be looked at meanwhile."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def setup(self, worker: Worker) -> None:
        import xgboost

        update = xgboost.Booster.update

        def slower(*arguments: Any, **options: Any) -> None:
            if self.file.exists():
                time.sleep(0.2)
            update(*arguments, **options)

        xgboost.Booster.update = slower


class Training:
    """A training of two workers that continues until the test lets it finish."""

    def __init__(self, client: Any, run: Future[Any], link: str, slow: Path) -> None:
        self.base = link.partition(" ")[0].removesuffix(TRAINING)
        self.workers: list[int] = list(client.run(os.getpid).values())
        self._run, self._slow = run, slow

    def hurry(self) -> None:
        self._slow.unlink(missing_ok=True)

    def end(self) -> None:
        """Returns when it has ended; raises what it raised."""
        self._run.result(browser.SECONDS)


@contextlib.contextmanager
def training(folder: Path) -> Iterator[Training]:
    """As users start one from Python."""
    pipeline.generate(folder / "flights", rows=24_000, files=4)
    slow = folder / "slow"
    slow.touch()
    job = Job.parse(
        {
            "data": {"source": str(folder / "flights"), "target": "late", "derive": {"late": "arr_delay > 15"},
                     "validation": {"share": 0.25}},
            "training": {"rounds": 600, "early_stopping": 0, "checkpoint_seconds": 1, "params": {"max_depth": 4},
                         "metrics": ["auc", "logloss"]},
            "cluster": {"device": "cpu", "workers": 2, "threads": 1},
            "output": {"model": str(folder / "model"), "report": False},
        }
    )  # fmt: skip
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers have no tests
    with connect(job) as client, ThreadPoolExecutor(1) as threads:
        client.register_plugin(Slow(slow))
        run = Training(client, threads.submit(pipeline.train, client, job), lazy.link(client, "training"), slow)
        try:
            yield run
        finally:
            run.hurry()
            run.end()


@contextlib.contextmanager
def watched(path: Path, port: str = "0") -> Iterator[str]:
    """`pipeline watch` of a recorded file: the link of its pages."""
    command = [sys.executable, "-m", "pipeline", "watch", str(path), "--port", port]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            link = re.search(r"http://\S+(?=/training)", said)
            assert link, said
            yield link[0]
        finally:
            process.send_signal(signal.SIGINT)


def written(path: Path, said: Iterable[tuple[str, Event]]) -> Path:
    """The file as it would have been recorded."""
    path.write_bytes(b"".join(line_of(run, event) for run, event in said))
    return path


def look(tab: Browser, link: str, name: str) -> None:
    """Looks at a page in both widths, and keeps what it looked like."""
    tab.open(link)
    for width in (WIDE, NARROW):
        tab.picture(browser.pictures() / f"{name}{link[link.rindex('/') :].replace('/', '-')}-{width}.png", width)
        assert tab.too_wide() == [], (link, width)
    tab.resize(WIDE)


def marks(tab: Browser) -> list[Any]:
    """The marks on the time line of /team."""
    return next((source["marker"] for source in tab.sources() if "marker" in source), [])


@pytest.mark.slow
def test_a_training_is_followed_to_its_end(tab: Browser, tmp_path: Path) -> None:
    with training(tmp_path) as run:
        tab.open(run.base + TRAINING)
        until(lambda: tab.points() > 2, "learning curves")
        points = tab.points()
        until(lambda: tab.points() > points, "curves that grow")
        assert "running for" in tab.words()
        for route in (TRAINING, EFFICIENCY, TEAM):
            look(tab, run.base + route, "running")
        assert tab.errors() == []

        os.kill(run.workers[-1], signal.SIGKILL)
        until(lambda: "killed by signal 9" in tab.words(), "the loss on /team")
        until(lambda: marks(tab) == ["x", "triangle"], "the loss and the return on the time line")
        look(tab, run.base + TEAM, "killed")
        look(tab, run.base + TRAINING, "killed")
        assert "1 worker lost" in tab.words()
        assert "restarted 1 time" in tab.words()

        tab.open(run.base + EFFICIENCY)
        until(lambda: not tab.scrolls(), "a page without a scroll bar that it does not need")
        tab.open(run.base + TRAINING)
        run.hurry()
        until(lambda: "finished after" in tab.words(), "the end on /training")
        assert "round 600 of 600" in tab.words()
        run.end()
        for route in (TRAINING, EFFICIENCY, TEAM):
            look(tab, run.base + route, "finished")
        assert tab.errors() == []


@pytest.mark.slow
def test_a_recorded_run_is_watched(tab: Browser, tmp_path: Path) -> None:
    path = written(tmp_path / "events.jsonl", recorded.binary())
    with watched(path) as base:
        for route in (TRAINING, EFFICIENCY, TEAM):
            look(tab, base + route, "recorded")
        assert "killed by signal 9" in tab.words()
        tab.open(base + TRAINING)
        assert "finished after" in tab.words()
        assert tab.points() == 300
        assert tab.errors() == []


@pytest.mark.slow
def test_a_page_whose_server_has_gone_says_so_and_shows_the_next_one(tab: Browser, tmp_path: Path) -> None:
    first = written(tmp_path / "first.jsonl", recorded.binary())
    with watched(first) as base:
        tab.open(base + TRAINING)
        assert OVER not in tab.words()
    until(lambda: OVER in tab.words(), "the end of the server")
    assert "Connection lost" not in tab.words()
    assert "round 300 of 300" in tab.words()  # the last state stays
    tab.picture(browser.pictures() / "gone-training-600.png", NARROW, browser.HEIGHT)

    second = written(tmp_path / "second.jsonl", recorded.ranking())
    with watched(second, base.rpartition(":")[2]) as again:
        assert again == base
        until(lambda: "round 160 of 500" in tab.words(), "the run of the next server")
        assert OVER not in tab.words()
        assert "auc" not in tab.words()
        assert tab.points() == 160
        expected = (
            "ERR_CONNECTION",
            "not connected so cannot send",
        )  # when asked whether a server is there, and when the width changes
        assert [line for line in tab.errors() if not any(one in line for one in expected)] == []
    until(lambda: "Connection lost" in tab.words(), "the loss of a server whose run continued")
    assert OVER not in tab.words()
