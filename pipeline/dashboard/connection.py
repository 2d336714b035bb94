"""What a page says when its server has gone, and how it takes up what another server has at the same address.

BokehJS would go on with its own session where a server answers again; that is often another one, of the next training,
and both runs would be drawn into one picture.  So the page is loaded anew, once there is one to be loaded.
"""

from bokeh.document import Document
from bokeh.events import ConnectionLost
from bokeh.models import CustomJS

RETRY_MILLISECONDS = 2_000
LOST = (
    "Connection lost: this is what was last heard, at %s. The page is loaded again as soon as there is one here. "
    "A run that was recorded (--events FILE) is shown by: pipeline watch FILE"
)
CODE = """
if (document.getElementById('connection-lost')) return;
const line = document.createElement('div');
line.id = 'connection-lost';
line.setAttribute('role', 'alert');
line.textContent = said.replace('%s', new Date().toLocaleTimeString());
document.body.append(line);
async function again() {
  try {
    if ((await fetch(location.href, {cache: 'no-store'})).ok) return location.reload();
  } catch {}  // nobody answers yet
  setTimeout(again, wait);
}
setTimeout(again, wait);
"""


def watch_over(doc: Document) -> None:
    """Has the page of this document say so when it has lost its server, and be loaded anew when one answers."""
    doc.config.reconnect_session = False
    doc.config.notify_connection_status = False
    doc.js_on_event(ConnectionLost, CustomJS(args={"said": LOST, "wait": RETRY_MILLISECONDS}, code=CODE))
