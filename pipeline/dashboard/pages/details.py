"""Shows the texts of /training: the settings and the plan, the incidents, and the notes of the run."""

from pipeline.dashboard.drawing import div
from pipeline.dashboard.markup import count, occurred, table, text, value
from pipeline.formatting import duration, nbytes
from pipeline.monitoring.state.run_state import RunState

MANY_INCIDENTS = 12  # shown


class RunDetails:
    """The settings and the plan, the incidents, and the notes of the run."""

    def __init__(self) -> None:
        self.root = div()

    def update(self, run: RunState | None, now: float) -> None:
        self.root.text = "" if run is None else _words(run)


def _words(run: RunState) -> str:
    facts = [(text(name), text(setting)) for name, setting in run.asked.items()]
    asked = f"<div><h3>Job</h3>{table(('', ''), facts, kind='facts')}</div>" if facts else ""
    planned = f"<div><h3>Plan</h3>{table(('', ''), _plan(run), kind='facts')}</div>" if run.planned else ""
    kept = ""
    if run.checkpoint is not None and run.state != "finished":  # then it has been deleted
        where = [
            ("folder for --resume", text(run.checkpoint.path)),
            ("resumes after", f"round {run.checkpoint.round:,}"),
        ]
        kept = f"<div><h3>If it is interrupted</h3>{table(('', ''), where, kind='facts')}</div>"
    since = "<span class=sub>: since the start, newest first</span>"
    happened = occurred(run, MANY_INCIDENTS)
    told = [
        (f"+{duration(moment - run.started)}", text(said)) for moment, said in reversed(run.notes[-MANY_INCIDENTS:])
    ]
    incidents = f"<div><h3>Incidents{since}</h3>{table(('', ''), happened, kind='when')}</div>" if happened else ""
    notes = f"<div><h3>Notes{since}</h3>{table(('', ''), told, kind='when')}</div>" if told else ""
    measured = [(text(name), value(number)) for name, number in run.metrics.items()]
    exact = f"<div><h3>Measured at the end, exactly</h3>{table(('', ''), measured, 1)}</div>" if measured else ""
    return f'<div class="two">{incidents}{notes}{exact}{asked}{planned}{kept}</div>'


def _plan(run: RunState) -> list[tuple[str, str]]:
    plan = run.planned
    assert plan is not None
    facts = [
        ("rows", "not counted yet" if plan.rows is None else f"{plan.rows:,}"),
        ("features", f"{plan.features:,}"),
        ("fragments", f"{plan.fragments:,}"),
        ("workers", f"{plan.workers:,} x {count(plan.threads, 'thread')}"),
        ("memory, all together", f"about {nbytes(plan.nbytes)}"),
    ]
    if len(plan.seconds) == 3:
        low, middle, high = plan.seconds
        facts.append(("time, with all rounds", f"{duration(middle)} ({duration(low)} to {duration(high)})"))
    return [*facts, ("note", text(plan.note))] if plan.note else facts
