"""Runs the installed command in its own process, writes its events to a pipe and does acts on them.

    python -m faults.runner '{"events": 5, "traps": "...", "acts": [...], "full": ""}' train JOB.toml ...

Every line on the pipe is a JSON object: an event as pipeline.events.types encodes it, or {"act": ..., "at": monotonic
seconds}.  An act is done inside the listener, so that the run is blocked meanwhile.  SIGUSR1 prints the stack of every
thread.
"""

import dataclasses
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pipeline
from faults import acts
from faults.script import Act
from pipeline.cli.main import main as command
from pipeline.events.types import Event, encode


class Teller:
    """Writes events to the pipe and does the acts that wait for them."""

    def __init__(self, descriptor: int, waiting: list[Act], traps: Path) -> None:
        self._pipe = os.fdopen(descriptor, "w", encoding="utf-8")
        self._waiting, self._traps, self._lock = waiting, traps, threading.Lock()

    def hear(self, event: Event, scheduler: str) -> None:
        with self._lock:
            self._say(encode(event))
            for act in [act for act in self._waiting if acts.meant(act, event)]:
                self._waiting.remove(act)
                self._say({"act": dataclasses.asdict(act)})
                acts.do(act, self._traps, scheduler, self._step)

    def _step(self, number: int) -> None:
        with self._lock:
            self._say({"step": number})

    def _say(self, message: dict[str, Any]) -> None:
        self._pipe.write(json.dumps({**message, "at": time.monotonic()}, default=float) + "\n")
        self._pipe.flush()


def main() -> None:
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    plan = json.loads(sys.argv[1])
    traps = Path(plan["traps"])
    teller = Teller(plan["events"], [Act(**act) for act in plan["acts"]], traps)
    if plan["full"]:
        acts.fill_by_patch(Path(plan["full"]))
    train = pipeline.train

    def watched(client: Any, job: Any, *, listen: Any, **options: Any) -> Any:
        from faults.traps import Traps

        client.register_plugin(Traps(str(traps)))
        scheduler = client.scheduler.address  # a client that has lost its scheduler does not know the address any more

        def both(event: Event) -> None:
            listen(event)
            teller.hear(event, scheduler)

        return train(client, job, listen=both, **options)

    pipeline.train = watched  # type: ignore[assignment]  # the same, with a listener
    sys.argv = ["pipeline", *sys.argv[2:]]
    command()


if __name__ == "__main__":
    main()
