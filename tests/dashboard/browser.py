"""Pages as a reader's browser shows them: Debian's Chromium without a window, driven by Selenium.

What is looked at is what has arrived there, not what the server has sent.  `python -m tools.screenshots` uses it, too.
"""

import contextlib
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it may be missing
    from selenium.webdriver import Chrome

HEIGHT = 800
SECONDS = 90.0  # for anything to happen on a page, however busy the machine is
POLL_SECONDS = 0.2
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

# Bokeh draws in shadow roots, which no selector looks into.
WALK = """
function* below(node) {
  for (const element of node.children) {
    yield element;
    if (element.shadowRoot) yield* below(element.shadowRoot);
    yield* below(element);
  }
}
const models = [...window.Bokeh?.documents[0]?.all_models ?? []];
"""
WORDS = "return [...below(document)].filter(e => e.matches('.bk-clearfix, #connection-lost')).map(e => e.innerText).join('\\n');"
SOURCES = """
return models.filter(model => model.type == 'ColumnDataSource')
  .map(model => Object.fromEntries(Object.entries(model.data).map(([name, values]) => [name, Array.from(values)])));
"""
LAYOUT = """
const drawn = window.Bokeh?.documents[0]?.is_idle ?? false;
const boxes = [...below(document.body)].map(e => e.getBoundingClientRect()).map(box => [box.right, box.bottom]);
return [drawn, Math.ceil(document.documentElement.scrollHeight), JSON.stringify(boxes)];
"""
# The pages clip what is too wide, so the document's width does not show it.
TOO_WIDE = """
const found = [];
function look(node) {
  for (const element of node.children) {
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    if (style.display == 'none' || style.visibility == 'hidden' || !box.width) continue;
    if (box.right > innerWidth + 1 || box.left < -1) found.push(`${element.tagName}.${element.className} to ${box.right}`);
    if (['auto', 'scroll'].includes(style.overflowX) && element != document.body) continue;
    if (element.shadowRoot) look(element.shadowRoot);
    look(element);
  }
}
look(document.body);
if (document.documentElement.scrollWidth > innerWidth) found.push(`a page ${document.documentElement.scrollWidth} wide`);
return found;
"""


def missing() -> str | None:
    """Why there is no browser here, in a line; None: there is one."""
    absent = [program for program in ("chromium", "chromedriver") if shutil.which(program) is None]
    absent += [] if importlib.util.find_spec("selenium") else ["the Python package selenium"]
    return f"no browser: {' and '.join(absent)} not found (Debian: chromium, chromium-driver)" if absent else None


def pictures() -> Path:
    """The folder for screenshots: CI_ARTEFACTS, or one among the temporary files."""
    folder = Path(os.environ.get("CI_ARTEFACTS") or Path(tempfile.gettempdir(), "pipeline-screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def chromium(profile: Path, *flags: str) -> Iterator["Browser"]:
    """A browser with a new profile in an empty folder; ended with the context."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # The driver's path, because Selenium would download one.
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """One tab, and what can be seen in it."""

    def __init__(self, driver: "Chrome") -> None:
        self._driver = driver
        self.resize(1280)

    def open(self, link: str) -> None:
        """Returns when the page has words on it."""
        self._driver.get(link)
        until(self.words, f"words on {link}")

    def resize(self, width: int, height: int = HEIGHT) -> None:
        """The size of the page itself, without a frame; pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def words(self) -> str:
        """The text of the page, from the top."""
        return str(self._ask(WORDS))

    def points(self) -> int:
        """Of the longest learning curve."""
        return max((len(source["value"]) for source in self.sources() if "value" in source), default=0)

    def sources(self) -> list[dict[str, list[Any]]]:
        """The data of everything that is drawn."""
        found: list[dict[str, list[Any]]] = self._ask(SOURCES)
        return found

    def too_wide(self) -> list[str]:
        """What reaches beyond the sides of the window, unless it can be scrolled by itself."""
        found: list[str] = self._ask(TOO_WIDE)
        return found

    def errors(self) -> list[str]:
        """What the console has called an error, or warned of, since this was last asked."""
        said = self._driver.get_log("browser")
        return [entry["message"] for entry in said if entry["level"] in ("SEVERE", "WARNING")]

    def scrolls(self) -> bool:
        """Whether the page is higher than the window."""
        return bool(self._ask("return document.documentElement.scrollHeight > innerHeight;"))

    def picture(self, path: Path, width: int, height: int | None = None) -> None:
        """The page at this width as a PNG: all of it, or so much from the top."""
        self.resize(width)
        self.resize(width, height or max(HEIGHT, self._settled()))
        self._settled()
        path.write_bytes(self._driver.get_screenshot_as_png())

    def _settled(self) -> int:
        """Waits until the page moves no more; its height."""
        before: list[Any] = []

        def height() -> int:
            nonlocal before
            last, before = before, self._ask(LAYOUT)
            return int(before[1]) if before[0] and before == last else 0

        return until(height, "a page that stands still")

    def _ask(self, script: str) -> Any:
        return self._driver.execute_script(WALK + script)


def until[Found](look: Callable[[], Found], what: str) -> Found:
    """Polls until something is there, and returns it; AssertionError where it does not come."""
    deadline = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {SECONDS:.0f} s for {what}"
        time.sleep(POLL_SECONDS)
    return found
