"""A loop for tests that read pages; after tests in a browser, where its screenshots are."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.dashboard import browser


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if any("test_browser" in report.nodeid for report in terminalreporter.getreports("passed")):
        terminalreporter.write_line(f"screenshots: {browser.pictures()}")


@pytest.fixture
def loop() -> Iterator[None]:
    """Bokeh's client wants a loop in its thread."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
