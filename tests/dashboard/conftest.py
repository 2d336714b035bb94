"""After tests in a browser: where its screenshots are."""

import pytest

from tests.dashboard import browser


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if any("test_browser" in report.nodeid for report in terminalreporter.getreports("passed")):
        terminalreporter.write_line(f"screenshots: {browser.pictures()}")
