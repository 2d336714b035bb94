"""Shows /training: progress, metrics, remaining time and incidents."""

from pipeline.dashboard.drawing import div
from pipeline.dashboard.markup import card, count, large, later, text, title, value, waiting
from pipeline.dashboard.pages.curves import CurvePlots, Speed
from pipeline.dashboard.pages.details import RunDetails
from pipeline.dashboard.pages.efficiency import CROWDED, GOOD, alone, without_core
from pipeline.dashboard.pages.stage_strip import strip
from pipeline.dashboard.window import Component
from pipeline.formatting import duration, nbytes
from pipeline.monitoring.state.live import figures_of
from pipeline.monitoring.state.naming import exact_of
from pipeline.monitoring.state.run_state import RunState
from pipeline.monitoring.state.worker_state import TIGHT

DRAWN_LATER = "Learning curves and speed are drawn here as soon as the rounds begin."
SILENT_SECONDS = 30.0  # without an event, after which the page says so
RECORD_ENDS = "Whether the run continued is not known; the page follows the file if it still grows."
UNREAD = "Whether the run continued is not known; the file is damaged, and the page does not follow it any more:"
FULL = 0.95  # of a worker's memory: at this share Dask kills it


class Progress:
    """The run in one line, its main figures, and the progress of each stage."""

    def __init__(self) -> None:
        self.root = div()

    def update(self, run: RunState | None, now: float) -> None:
        if run is None:
            self.root.text = waiting()
        else:
            drawn = run.pace.marks or run.state != "running"
            below = "" if drawn else f"<p class=sub>{DRAWN_LATER}</p>"
            self.root.text = f"{_state(run, now)}{_cards(run, now)}{strip(run)}{below}"


def _state(run: RunState, now: float) -> str:
    silent = now - run.heard
    match run.state:
        case "finished":
            said = f"finished after {duration((run.ended or run.heard) - run.started)}"
        case "failed":
            said = f'<span class="lost">failed</span> after {duration((run.ended or run.heard) - run.started)}'
        case _ if run.recorded:
            said = f'running for {duration(max(0.0, run.heard - run.started))}; <span class="lost">the record ends here</span>'
        case _ if silent > SILENT_SECONDS:
            said = f'<span class="lost">no event for {duration(silent)}</span>'
        case _:
            said = f"running for {duration(max(0.0, now - run.started))}"
    about = f"<p class=lost>{text(run.message)}</p>" if run.state == "failed" else ""
    if run.recorded and run.state == "running":
        about = f"<p class=lost>{UNREAD} {text(run.unread)}</p>" if run.unread else f"<p class=sub>{RECORD_ENDS}</p>"
    if run.path:
        about = f"<p class=sub>model: {text(run.path)}</p>"
    alarms = [one for one in run.incidents if one.kind == "Note"]
    if alarms:
        more = f"; {len(alarms) - 1:,} before it" if len(alarms) > 1 else ""
        about += f"<p class=alarm>{text(alarms[-1].text)}, {duration(alarms[-1].time - run.started)} after the start{more}</p>"
    return f"<h2>{title(run)}: {said}</h2>{about}"


def _cards(run: RunState, now: float) -> str:
    cards = [_far(run), _long(run, now), _good(run), _busy(run), _safe(run), _died(run)]
    return f'<div class="cards six">{"".join(cards)}</div>'


def _far(run: RunState) -> str:
    if run.rounds:
        early = run.rounds_ended and run.round < run.rounds and run.state == "finished"
        about = "stopped early: no improvement" if early else f"{run.round / run.rounds:.0%} of the rounds"
        about += f"; first the {run.current_stage} again" if run.recovering else ""
        return card("How far", f"round {run.round:,} of {run.rounds:,}", about, part=run.round / run.rounds)
    if not run.stages:
        return card("How far", "–", "it begins")
    if run.current_stage and run.current_stage not in run.stages:
        return card("How far", text(run.current_stage), "under way")
    name, stage = list(run.stages.items())[-1]
    if not stage.total:
        return card("How far", text(name), duration(stage.seconds))
    return card(
        "How far", text(name), f"{stage.done:,} of {count(stage.total, 'fragment')}", part=stage.done / stage.total
    )


def _long(run: RunState, now: float) -> str:
    label = "Time left"
    if run.state != "running":
        return card("Time taken", duration((run.ended or run.heard) - run.started))
    if run.interrupted:
        left = f"then about {duration(run.eta[1])} of rounds" if run.eta else ""
        return card(
            label, "interrupted", f"it resumes when the workers are back, or without them; {left}".rstrip("; "), "warn"
        )
    if run.rounds_ended:
        return card(label, "a moment", "the rounds are done; evaluating and saving")
    if run.recovering:
        return card(label, "–", "lost work is repeated; known when the rounds resume", "warn")
    if run.patience_left == 0:
        return card(
            label, "a moment", f"no round was better for {run.asked['training.early_stopping']}: it stops early"
        )
    if run.eta is None:
        return card(label, "–", _long_before_rounds(run))
    low, middle, high = (max(0.0, seconds - max(0.0, now - run.round_at)) for seconds in run.eta)
    span = f"between {duration(low)} and {duration(high)}" if duration(low) != duration(high) else ""
    most = f"at most {count(run.rounds - run.round, 'round')} more, fewer if it stops early" if run.stops_early else ""
    return card(label, f"about {duration(middle)}", "; ".join(filter(None, (span, most))))


def _long_before_rounds(run: RunState) -> str:
    """The status of the current stage before the rounds."""
    name, stage = list(run.stages.items())[-1] if run.stages else ("", None)
    if stage is None or stage.ended or name == "rounds" or not 0 < stage.done < stage.total:
        return later(run)
    left = stage.seconds * (stage.total - stage.done) / stage.done
    return f"about {duration(left)} of {text(name)}; all of it is {later(run)}"


def _good(run: RunState) -> str:
    if run.metrics and run.state == "finished":
        name = exact_of(run.deciding, run.metrics)
        return card(
            f"How good: {text(name)}",
            value(run.metrics[name]),
            f"exact, of {'the best' if run.stops_early else 'the last'} round {run.best_round:,}",
        )
    if not run.deciding:
        return card("How good", "–", "nothing is measured yet" if run.state == "running" else "nothing was measured")
    latest = run.measured.get(run.deciding)
    if not run.best_round or not run.stops_early:  # the best round is boosted again, or the last one counts
        return card(f"How good: {text(run.deciding)}", value(latest), "in the latest round")
    return card(
        f"How good: {text(run.deciding)}", value(run.best), f"best in round {run.best_round:,}; now {value(latest)}"
    )


def _busy(run: RunState) -> str:
    label = "Every worker busy?"
    live = figures_of(run)
    speed = f"{run.rounds_per_second:.3g} rounds/s" if run.rounds_per_second else ""
    rows = f"{large(run.pace.rows_per_second)} rows/s" if run.pace.rows_per_second else ""
    about = ", ".join(filter(None, (speed, rows)))
    about += f" in the last {count(run.pace.rounds, 'round')}" if speed else ""
    if live is None:
        return card(label, "–", about or later(run))
    if live.PE is None:
        return card(label, count(len(live.workers), "worker"), f"{about}; on GPUs it is not measured")
    if len(live.workers) == 1:
        said = alone(live)
        return card(
            "Is it computing?",
            f"{live.PE:.0%} of the time",
            f"{said} {about}".strip(),
            _kind(run, live.PE, warn=""),
        )
    if (queued := without_core(live)) >= CROWDED:
        about = f"without a core for {queued:.0%}; {about}"
    elif live.straggler is not None:
        about = f"the others wait for worker {text(live.straggler)}; {about}"
    waits = live.straggler is not None or queued >= CROWDED
    return card(label, f"{live.PE:.0%} of the time", about, _kind(run, live.PE, warn="warn" if waits else ""))


def _kind(run: RunState, part: float, *, warn: str) -> str:
    if run.state != "running":
        return ""
    return "good" if part >= GOOD else warn


def _safe(run: RunState) -> str:
    label = "Memory safe?"
    full = [
        ((worker.memory_nbytes if run.state == "running" else worker.peak_memory_nbytes) / worker.place.memory_limit_nbytes, worker)
        for worker in run.training
        if worker.place is not None and worker.place.memory_limit_nbytes and worker.memory_nbytes
    ]  # fmt: skip
    if not full:
        known = max((worker.memory_nbytes for worker in run.training), default=0)
        return card(label, nbytes(known) if known else "–", "no limit is set" if known else later(run))
    part, worker = max(full, key=lambda one: one[0])
    kind = "bad" if part >= FULL else "warn" if part >= TIGHT else "good"
    assert worker.place is not None
    about = f"worker {text(worker.name)}: {nbytes(part * worker.place.memory_limit_nbytes)} of {nbytes(worker.place.memory_limit_nbytes)}"
    return card(label, f"{part:.0%} at most", about, kind, part)


def _died(run: RunState) -> str:
    lost = [one for one in run.incidents if one.kind == "WorkerLost"]
    away = run.missing
    many = len(run.training) or (run.planned.workers if run.planned else 0)
    here = count(many, "worker") if many else ""
    if not lost:
        return card("Did anything die?", "no", here, "good" if run.training else "")
    again = f"restarted {count(run.restarts, 'time')}" if run.restarts else "not restarted yet"
    gone = f"; away: worker {text(', '.join(away[:5]))}" if away else f"; {here} now" if run.state == "running" else ""
    return card("Did anything die?", f"{count(len(lost), 'worker')} lost", again + gone, "bad" if away else "warn")


def parts() -> list[Component]:
    """The page from top to bottom."""
    return [Progress(), CurvePlots(), Speed(), RunDetails()]
