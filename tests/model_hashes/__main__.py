"""Rewrites hashes.json.

    python -m tests.model_hashes --write

Only with the locked versions, and in a commit that says why the bytes are other ones.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

from pipeline.cluster.connect import connect
from pipeline.config.job import Cluster
from tests.model_hashes.cases import record

HASHES = Path(__file__).parent / "hashes.json"


def main() -> int:
    if sys.argv[1:] != ["--write"]:
        print(__doc__, file=sys.stderr)  # noqa: T201
        return 2
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clients = {
            workers: stack.enter_context(connect(Cluster(device="cpu", workers=workers, threads=1)))
            for workers in (1, 2)
        }
        found = record(clients.__getitem__, folder)
    HASHES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
