"""What a page shows when its server ends: the end of the run, and no alarm where it had ended."""

import asyncio
from typing import Any

import pytest
from bokeh.client import pull_session
from bokeh.document import Document
from distributed import LocalCluster

from pipeline.dashboard import install
from pipeline.dashboard.pages import registry
from pipeline.events.types import Failed, Saved, Started
from pipeline.monitoring.publish import publishing
from pipeline.monitoring.state.run_store import RunStore
from pipeline.run.connect import connect
from pipeline.runtime.placement import placement
from tests.dashboard.test_install import SECTION, read, runs_of, until
from tests.dashboard.test_pages import drawn, tick, words
from tests.monitoring.state.test_run_store import round_done

pytestmark = pytest.mark.usefixtures("loop")


def withdraw(client: Any) -> None:
    """As `connect` does when its context ends."""
    cluster: LocalCluster = client.cluster
    cluster.sync(install.shutdown, cluster.scheduler)


def test_open_pages_show_the_end_of_a_run_before_their_server_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "INTERVAL_MILLISECONDS", 3_600_000)  # no page would look again by itself
    with connect(SECTION) as client:
        base = str(placement(client, SECTION).dashboard).removesuffix("/status")
        with publishing(client, "a") as listen:
            listen(Started(verb="train", run="a"))
            until(lambda: runs_of(client) == {"a": "running"})
            read(f"{base}/status")  # loads the dashboard
            tabs = [pull_session(url=base + route) for route in ("/training", "/team", "/individual-training-progress")]
            try:
                assert all("finished" not in words(tab.document) for tab in tabs)
                listen(Saved(path="m", sha256=""))
                until(lambda: runs_of(client) == {"a": "finished"})
                with monkeypatch.context() as patch:
                    patch.setattr(install.internals, "shutdown", stays)
                    withdraw(client)
                for tab in tabs:
                    tab.pull()
                    assert states(tab.document) == ["finished"]
                assert "finished after" in words(tabs[0].document)
            finally:
                for tab in tabs:
                    tab.close()


async def stays(scheduler: Any) -> None:
    """Does not stop the dashboard: what its documents show is still to be looked at."""


def test_a_reader_that_takes_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[Any] = []

    async def never(scheduler: Any) -> None:
        await asyncio.Event().wait()

    async def stop(scheduler: Any) -> None:
        stopped.append(scheduler)

    monkeypatch.setattr(install.internals, "draw_last", never)
    monkeypatch.setattr(install.internals, "shutdown", stop)
    asyncio.run(install.shutdown("scheduler", last_seconds=0.05))
    assert stopped == ["scheduler"]


@pytest.mark.parametrize(
    ("event", "state"), [(Saved(time=9.0, path="m", sha256=""), "finished"), (Failed(time=9.0, message="x"), "failed")]
)
def test_a_page_knows_whether_its_run_has_ended(event: Saved | Failed, state: str) -> None:
    """For the line that its browser draws when the server has gone."""
    board = RunStore()
    doc = drawn(registry.PAGES[0], board)
    assert states(doc) == []
    board.apply("a", round_done(1, 1.0))
    tick(doc)
    assert states(doc) == ["running"]
    board.apply("a", event)
    tick(doc)
    assert states(doc) == [state]
    assert states(drawn(registry.PAGES[0], board, asked="another")) == []


def states(doc: Document) -> list[str]:
    """What the page knows of the state of its run."""
    (root,) = doc.roots
    return list(root.tags)
