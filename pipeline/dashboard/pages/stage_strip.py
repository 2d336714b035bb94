"""Draws the strip of stages: the progress of each, the current one, and the work repeated after a loss."""

from pipeline.dashboard.markup import count, progress, text
from pipeline.formatting import duration
from pipeline.monitoring.state.run_state import RunState
from pipeline.monitoring.state.stages import Again, Stage

USUAL = {"train": ("statistics", "blocks", "matrix", "rounds", "evaluate")}  # stages of each verb
MEANING = {
    "survey": "a first look at the files",
    "statistics": "what each column holds",
    "blocks": "rows turned into numbers",
    "matrix": "values sorted into bins",
    "rounds": "trees grown",
    "evaluate": "the exact figures",
}


def strip(run: RunState) -> str:
    """A box for each stage, including future ones."""
    known, going = run.stages, run.current_stage
    order = USUAL.get(run.verb or ("train" if run.rounds else ""), ())  # a late client lacks the verb
    names = [*known, *(name for name in order if name not in known and run.state == "running")]
    names.sort(key=lambda name: order.index(name) if name in order else -1)
    boxes = []
    for name in names:
        if name in known:
            boxes.append(_box(name, known[name], run, now=name == going))
        elif name == going:
            boxes.append(_div(name, "now", 0.0, "under way"))
        elif any(other in known for other in order[order.index(name) :]):  # a late client lacks its events
            boxes.append(_div(name, "done", 1.0, "done"))
        else:
            boxes.append(_div(name, "later", 0.0, "to come"))
    return f'<div class="strip">{"".join(boxes)}</div>'


def _box(name: str, stage: Stage, run: RunState, *, now: bool) -> str:
    if name == "rounds":
        return _rounds(stage, run, now=now)
    said = _counted(stage.done, stage.total, stage.seconds)
    part = 1.0 if stage.ended else stage.done / stage.total if stage.total else 0.0
    if now and stage.ended and (stage.again is None or stage.again.ended):  # no event of the repetition yet
        return _div(name, "now", 0.0, said, "again, for what was lost")
    if stage.again is None:
        return _div(name, "now" if now else "done" if stage.ended else "", part, said)
    again = f"again: {_counted(stage.again.done, stage.again.total, stage.again.seconds)}"
    return _div(name, "now" if now else "done", _part(stage.again) if now else part, said, again)


def _rounds(stage: Stage, run: RunState, *, now: bool) -> str:
    part = stage.done / stage.total if stage.total else 0.0
    said = _counted(stage.done, stage.total, stage.seconds, "round")
    if run.interrupted:
        return _div("rounds", "", part, said, '<span class="lost">interrupted</span>')
    if run.recovering:
        return _div("rounds", "", part, said, "resume when the matrix is rebuilt")
    return _div("rounds", "now" if now else "done" if stage.ended else "", 1.0 if stage.ended else part, said)


def _part(again: Again) -> float:
    return again.done / again.total if again.total else float(again.ended)


def _counted(done: int, total: int, seconds: float, what: str = "fragment") -> str:
    if not total:
        return duration(seconds)
    many = count(total, what) if done == total else f"{done:,} of {count(total, what)}"
    return f"{many}, {duration(seconds).replace(' ', '&nbsp;')}"


def _div(name: str, kind: str, part: float, said: str, more: str = "") -> str:
    about = f"<em>{MEANING[name]}</em>" if name in MEANING else ""
    extra = f"<small>{more}</small>" if more else ""
    return f'<div class="stage {kind}"><b>{text(name)}</b>{about}{progress(part)}<small>{said}</small>{extra}</div>'
