"""Handles a page whose server has gone: shows a message, and reloads the page when a server answers at the same
address.

BokehJS would continue its own session when a server answers again; that is often the server of the next training,
and both runs would be drawn into one plot.  So the page is reloaded as soon as a server answers.
"""

from bokeh.document import Document
from bokeh.events import ConnectionLost
from bokeh.models import Column, CustomJS

from pipeline.monitoring.state.run_state import RunState

RETRY_MILLISECONDS = 2_000
LOST = (
    "Connection lost: the page shows the state at %s. It reloads as soon as the server answers again. "
    "A recorded run (--events FILE) is shown by: pipeline watch FILE"
)
OVER = (
    "The run has ended, and its server has stopped: the page shows the last state. It reloads as soon as a server answers "
    "here."
)
ENDED = ("finished", "failed")  # states in which a server's end is no failure
CODE = """
if (document.getElementById('connection-lost')) return;
const line = document.createElement('div');
line.id = 'connection-lost';
const over = ended.includes(root.tags[0]);
line.setAttribute('role', over ? 'status' : 'alert');
line.classList.toggle('over', over);
line.textContent = over ? said_over : said.replace('%s', new Date().toLocaleTimeString());
document.body.append(line);
async function again() {
  try {
    if ((await fetch(location.href, {cache: 'no-store'})).ok) return location.reload();
  } catch {}  // no server answers yet
  setTimeout(again, wait);
}
setTimeout(again, wait);
"""


def tell_state(root: Column, run: RunState | None) -> None:
    """Stores the state of the shown run in the page, for use after the connection is lost."""
    tags = [] if run is None else [run.state]
    if root.tags != tags:
        root.tags = tags


def watch_over(doc: Document, root: Column) -> None:
    """Makes the page of this document show that it has lost its server, and reload when a server answers.

    `root`: the column in which `tell_state` stored the run's state.
    """
    doc.config.reconnect_session = False
    doc.config.notify_connection_status = False
    given = {"root": root, "said": LOST, "said_over": OVER, "ended": ENDED, "wait": RETRY_MILLISECONDS}
    doc.js_on_event(ConnectionLost, CustomJS(args=given, code=CODE))
