"""Counts the functions and files of `pipeline` that one training enters, and the hops of its round events.

    python -m tools.trace DATA [--job JOB] [--set section.field=value]... [--json]

DATA is a source of the job (by default workflows/flights.toml), or a folder with nycflights13 in it.  Client, scheduler
and one worker are processes of their own, and each is counted apart; no report is written.

Functions: those that were called at least once, without module and class bodies and generator expressions.  Files:
those with such a function.  Hops of an event: the functions that receive it, as an object or encoded in a message,
return it, or pass it to another one; on the way to the dashboard's state: those until the scheduler's store has it.
"""

import argparse
import inspect
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pipeline"
EVENTS = ("RoundDone", "WorkerRounds")
PROCESSES = ("client", "scheduler", "worker")
STATE, STORE = "pipeline/monitoring/state/", "RunStore.apply"  # what is inside the state is no hop on the way to it
ROUNDS = 30  # few: the functions entered do not depend on them
EXPRESSIONS = ("<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>")
GENERATED = "<string>"  # file of the methods that dataclasses make

MONITORING = sys.monitoring
TOOL = MONITORING.PROFILER_ID

# The functions this process has entered, in order: dicts serve as ordered sets.
_functions: dict[tuple[str, str], None] = {}  # (file, qualified name)
_hops: dict[str, dict[tuple[str, str], None]] = {event: {} for event in EVENTS}
_named: dict[CodeType, tuple[str, str] | None] = {}


def start() -> None:
    """Starts counting in this process."""
    MONITORING.use_tool_id(TOOL, "trace")
    MONITORING.register_callback(TOOL, MONITORING.events.PY_START, _entered)
    MONITORING.register_callback(TOOL, MONITORING.events.PY_RETURN, _returned)
    MONITORING.set_events(TOOL, MONITORING.events.PY_START | MONITORING.events.PY_RETURN)


def dask_setup(server: object) -> None:
    """Called by the scheduler and the worker, which load this module at their start."""
    start()


def counted() -> dict[str, Any]:
    """The functions and files this process has entered so far."""
    return {"functions": list(_functions), "hops": {event: list(names) for event, names in _hops.items()}}


def _entered(code: CodeType, offset: int) -> Any:
    name = _name(code)
    if name is None:
        return MONITORING.DISABLE
    _functions[name] = None
    frame = sys._getframe(1)
    for event in {event for value in _arguments(frame) if (event := event_in(value))}:
        if (caller := _caller(frame)) is not None:
            _hops[event][caller] = None
        _hops[event][name] = None
    return None


def _returned(code: CodeType, offset: int, value: object) -> Any:
    name = _name(code)
    if name is None:
        return MONITORING.DISABLE
    if event := event_in(value):
        _hops[event][name] = None
    return None


def _name(code: CodeType) -> tuple[str, str] | None:
    """File and name of a function of ours; None for all other code."""
    if code not in _named:
        ours = code.co_filename.startswith(f"{PACKAGE}/") and code.co_flags & inspect.CO_OPTIMIZED
        name = (code.co_filename.removeprefix(f"{ROOT}/"), code.co_qualname)
        _named[code] = name if ours and code.co_name not in EXPRESSIONS else None
    return _named[code]


def _arguments(frame: FrameType) -> Iterator[object]:
    """The arguments, without an event's own methods, which only construct it."""
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount
    values = frame.f_locals
    for name in code.co_varnames[:count]:
        if name != "self" and name in values:
            yield values[name]


def _caller(frame: FrameType) -> tuple[str, str] | None:
    """The function of ours that called this one; None where another library did."""
    above = frame.f_back
    while above is not None and above.f_code.co_filename == GENERATED:
        above = above.f_back
    return None if above is None else _name(above.f_code)


def event_in(value: object) -> str | None:
    """The name of the event in a value, or in a message of Dask's topics.

    >>> event_in((0.0, {"run": "1", "event": {"event": "RoundDone", "round": 3}})), event_in({"event": "Note"})
    ('RoundDone', None)
    """
    if type(value).__name__ in EVENTS:
        return type(value).__name__
    if isinstance(value, tuple) and len(value) == 2:  # in the form for subscribers: time and message
        return event_in(value[1])
    if isinstance(value, dict):
        held = value.get("event")
        return held if isinstance(held, str) and held in EVENTS else event_in(held)
    return None


def trace(job: Any, source: Path) -> dict[str, dict[str, Any]]:
    """Runs a job with a scheduler and one worker in processes of their own; process -> functions it has entered."""
    from distributed.deploy.subprocess import SubprocessCluster

    traced = {"preload": ["tools.trace"]}
    with (
        tempfile.TemporaryDirectory() as folder,
        SubprocessCluster(
            n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", scheduler_kwargs=traced,
            worker_kwargs={**traced, "local_directory": folder},
        ) as cluster,
    ):  # fmt: skip
        cluster.wait_for_workers(1)
        return _trace(job, source, cluster.scheduler_address, Path(folder))


def _trace(job: Any, source: Path, scheduler: str, folder: Path) -> dict[str, dict[str, Any]]:
    import pipeline

    settings = [
        f"data.source={json.dumps(str(source.resolve()))}",
        f"cluster.scheduler={json.dumps(scheduler)}",
        f"output.model={json.dumps(str(folder / 'model'))}",
        "output.report=false",
    ]
    start()
    loaded = pipeline.Job.load(job.job, [f"training.rounds={ROUNDS}", *job.set, *settings])
    with pipeline.connect(loaded) as client:
        pipeline.train(client, loaded)
        found = {"client": counted(), "scheduler": client.run_on_scheduler(counted)}
        (found["worker"],) = client.run(counted).values()
    return found


def summary(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Counts by process, and the hops by name."""
    functions = {process: [tuple(name) for name in found[process]["functions"]] for process in PROCESSES}
    distinct = {name for names in functions.values() for name in names}
    return {
        "processes": {
            **{process: _counts(names) for process, names in functions.items()},
            "all": _counts(distinct),
        },
        "hops": {
            event: {
                process: [f"{file}:{name}" for file, name in found[process]["hops"][event]] for process in PROCESSES
            }
            for event in EVENTS
        },
        "entered": {process: _by_file(names) for process, names in functions.items()},
    }


def to_the_state(hops: Mapping[str, Sequence[str]]) -> list[str]:
    """The hops of an event from the function that makes it on the worker to the scheduler's store."""
    there = [hop for hop in hops["scheduler"] if not hop.startswith(STATE) or hop.endswith(f":{STORE}")]
    return [*hops["worker"], *there]


def _counts(names: Sequence[tuple[str, str]] | set[tuple[str, str]]) -> dict[str, int]:
    return {"functions": len(names), "files": len({file for file, _ in names})}


def _by_file(names: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    files = sorted({file for file, _ in names})
    return {file: sorted(name for at, name in names if at == file) for file in files}


def table(counts: Mapping[str, Any]) -> str:
    """The counts, and the hops of each event, as text."""
    lines = [f"{'process':<12}{'functions':>10}{'files':>8}"]
    lines += [f"{name:<12}{n['functions']:>10}{n['files']:>8}" for name, n in counts["processes"].items()]
    lines += ["", f"{'hops of':<14}" + "".join(f"{process:>10}" for process in (*PROCESSES, "all", "to state"))]
    for event, hops in counts["hops"].items():
        numbers = [len(hops[process]) for process in PROCESSES]
        numbers += [sum(numbers), len(to_the_state(hops))]
        lines.append(f"{event:<14}" + "".join(f"{number:>10}" for number in numbers))
    for event, hops in counts["hops"].items():
        for process in ("worker", "scheduler", "client"):
            lines += ["", f"{event}, {process}:", *(f"  {name}" for name in hops[process])]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.trace", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--job", type=Path, default=ROOT / "workflows" / "flights.toml")
    parser.add_argument("--set", action="append", default=[], metavar="section.field=value")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    flights = arguments.data / "nycflights13"
    counts = summary(trace(arguments, flights if flights.is_dir() else arguments.data))
    print(json.dumps(counts, indent=1) if arguments.json else table(counts))
    return 0


if __name__ == "__main__":
    from tools.trace import main  # import the module by its name, so that workers can run its functions

    sys.exit(main())
