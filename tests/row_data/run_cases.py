"""Runs every case on one cluster with debug output, and records every message and where it appeared.

    python -m tests.row_data.run_cases FOLDER

`FOLDER/said.json`: case -> outcome, error, printable traceback, events; `FOLDER/logs.json`: what Dask's processes logged.
Everything they print goes to this process's stderr.
"""

import json
import sys
import traceback
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import pipeline
from pipeline.cluster import lean
from pipeline.config.job import Job
from pipeline.data import fragments
from pipeline.errors import PipelineError
from pipeline.events.types import encode
from tests.row_data.cases import CASES, CLASSES, Case
from tests.row_data.secrets import good

SMALL = (
    "training.rounds=2", "training.params.max_depth=2", "output.report=false", "cluster.workers=2", "cluster.threads=1",
    "cluster.device=cpu", "data.fragment_mib=1", "training.max_restarts=0",
)  # fmt: skip


def job_of(source: Any, settings: tuple[str, ...], model: Path) -> Job:
    table = {"data": {"source": source if isinstance(source, str) else []}, "output": {"model": str(model)}}
    return Job.parse(table, settings=[*SMALL, *settings])


def run(client: Any, case: Case, folder: Path, model: Any) -> list[Any]:
    """The events of the verb, as JSON; raises the error of the verb."""
    data = folder / folder.name
    data.mkdir(parents=True)
    given = case.make(data)
    said: list[Any] = []
    code = list(data.glob("*_code.py"))
    settings = (*case.settings, *(f"data.function={path.stem}:change" for path in code))
    if code:
        code[0].rename(folder.parent / code[0].name)
    try:
        if case.verb == "train":
            job = job_of(str(data), settings, folder / "model")
            pipeline.train(client, job, source=given, listen=said.append, allow_code=case.allow_code)
        elif case.verb == "predict":
            pipeline.predict(client, model, str(data), out=str(folder / "out"), listen=said.append)
        elif case.verb == "evaluate":
            pipeline.evaluate(client, model, str(data))
        else:
            model.predict(given)
    finally:
        said = [json.dumps(encode(event), default=str) for event in said]
    return said


def main(root: Path) -> None:
    lean.install()
    fragments.MIN_FRAGMENT_NBYTES = 1  # one for each file
    sys.path.insert(0, str(root))  # the folder of the users' modules; added to the workers' paths below
    (root / "good").mkdir()
    pq.write_table(good(), root / "good" / "0.parquet")
    job = job_of(str(root / "good"), CLASSES, root / "model")
    said: dict[str, Any] = {}
    with pipeline.connect(job, debug=True) as client:
        client.run(sys.path.insert, 0, str(root))
        model = pipeline.train(client, job).model
        for number, (name, case) in enumerate(CASES.items()):
            folder = root / f"case_{number}"
            folder.mkdir()
            entry: dict[str, Any] = {"outcome": "done", "error": "", "trace": "", "events": []}
            try:
                entry["events"] = run(client, case, folder, model)
            except Exception as error:
                kind = "refused" if isinstance(error, PipelineError) else "unexpected"
                trace = "".join(traceback.format_exception(error))
                entry |= {"outcome": kind, "error": f"{type(error).__name__}: {error}", "trace": trace}
            said[name] = entry
        logs = {
            "scheduler": list(map(str, client.get_scheduler_logs())),
            "workers": {key: list(map(str, lines)) for key, lines in client.get_worker_logs().items()},
            "nannies": {key: list(map(str, lines)) for key, lines in client.get_worker_logs(nanny=True).items()},
            "events": list(map(str, client.cluster.scheduler.get_events().items())),
        }
    (root / "said.json").write_text(json.dumps(said, indent=1))
    (root / "logs.json").write_text(json.dumps(logs, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
