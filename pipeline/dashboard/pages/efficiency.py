"""Shows /efficiency: where each worker's time goes, in the last rounds and since the start."""

from collections.abc import Sequence

from bokeh.layouts import column
from bokeh.models import ColumnDataSource, Row

from pipeline.dashboard.drawing import Lanes, div, flex, hover, put, refresh
from pipeline.dashboard.markup import card, count, key, later, plain, table, text, title, waiting
from pipeline.dashboard.theme import BLUE, GREEN, GREY, ORANGE
from pipeline.dashboard.window import Component
from pipeline.formatting import duration, nbytes
from pipeline.monitoring.state.live import LiveFigures, LiveWorker, figures_of
from pipeline.monitoring.state.naming import natural
from pipeline.monitoring.state.run_state import RunState

SHARES = {"useful": GREEN, "transfer": BLUE, "wait": ORANGE, "other": GREY}
BARS = 24  # workers drawn; of more workers those that compute longest and those that compute least
GOOD = 0.8
CROWDED = 0.15  # of the time without a core, above which the page reports it
MEANING = (
    "Useful: trees are computed. Transfer: the workers' sums travel between them. Wait: for a worker that is not ready. "
    "Other: ready to compute, but without a core."
)
ALONE = "Useful: trees are computed. Other: the training thread computes nothing, because it has no core or because it waits."
WAITS = "for its own threads, for memory, or between two rounds"  # a single worker, which exchanges nothing
ABOUT = (
    "Live estimates, from the CPU time of each worker's training thread and the time it had no core. "
    "Transfer is an upper bound: the share of the worker that waits least. "
    "The report after the run has measured values."
)
ON_GPU = (
    "On GPUs, CPU time does not measure the work: useful time, transfer and waiting are known only after "
    "the run, from its report."
)


class Factors:
    """E, J, PE and the factors of POP (Performance Optimisation and Productivity), over the last rounds."""

    def __init__(self) -> None:
        self.root = div()

    def update(self, run: RunState | None, now: float) -> None:
        if run is None:
            self.root.text = waiting()
            return
        live = figures_of(run)
        head = f"<h2>{title(run)}: where the time goes</h2>"
        if live is None:
            self.root.text = f"{head}<p class=sub>Where it goes is {later(run)}.</p>"
            return
        said = f"<p>{_sentence(live)}</p>" + (
            f"<p class=sub>{ALONE if len(live.workers) == 1 else MEANING}</p>" if live.PE is not None else ""
        )
        self.root.text = f'{head}{said}<div class="cards">{_cards(live)}</div>'


class Shares:
    """A bar for each worker: useful, transfer, wait, other, in milliseconds of a round."""

    def __init__(self, *, since_start: bool) -> None:
        self._since_start = since_start
        names = ("worker", *SHARES, *(f"{share}_part" for share in SHARES))
        self._source = ColumnDataSource({name: [] for name in names})
        self._lanes = Lanes("milliseconds of a round")
        self.figure = self._lanes.figure
        bars = self.figure.hbar_stack(
            list(SHARES), y="worker", height=0.7, color=list(SHARES.values()), source=self._source
        )  # fmt: skip
        tips = [(share, f"@{share}{{0.0}} ms, @{share}_part{{0%}}") for share in SHARES]
        hover(self.figure, bars, [("worker", "@worker"), *tips])
        self._title = div()
        self.root = column(self._title, sizing_mode="stretch_width", styles=flex())

    def update(self, run: RunState | None, now: float) -> None:
        live = None if run is None else figures_of(run, since_start=self._since_start)
        drawn = [] if live is None or live.PE is None else _selected(live.workers)
        self.root.visible = bool(drawn)
        if live is None or not drawn:
            return
        names = [plain(worker.name) for worker in drawn]
        self._lanes.show(names)
        columns = {share: [1e3 * (getattr(worker, share) or 0.0) for worker in drawn] for share in SHARES}
        parts = {f"{share}_part": [each / 1e3 / live.seconds for each in columns[share]] for share in SHARES}
        refresh(self._source, {"worker": names, **columns, **parts})
        put(self.root, self._title, self.figure)
        self._title.text = self._said(live, drawn)

    def _said(self, live: LiveFigures, drawn: Sequence[LiveWorker]) -> str:
        what = "Since the start" if self._since_start else "Last rounds"
        some = f"; {len(drawn)} of {len(live.workers):,} workers: the busiest and the least busy"
        about = f"{count(live.rounds, 'round')}, {_duration_of(live.seconds)} each"
        keys = "".join(key(colour, share) for share, colour in SHARES.items())
        more = some if len(drawn) < len(live.workers) else ""
        return f"<h3>{what}<span class=sub>: {about}{more}</span></h3><p>{keys}</p>"


class EfficiencyTable:
    """The same as a table, with the bytes each worker sends."""

    def __init__(self) -> None:
        self.root = div()

    def update(self, run: RunState | None, now: float) -> None:
        live = None if run is None else figures_of(run)
        if live is None:
            self.root.text = ""
            return
        assert run is not None
        planned = _planned_compute(run)
        head = ("worker", "useful", "planned", "transfer at most", "wait", "other", "sent a round")
        rows = [_row(worker, live, planned.get(worker.name)) for worker in _selected(live.workers)]
        self.root.text = (
            f"<h3>Worker by worker<span class=sub>: last {count(live.rounds, 'round')}</span></h3>"
            f"{table(head, rows, 6)}<p class=sub>{ABOUT if live.PE is not None else ON_GPU}</p>"
        )


def _selected(workers: Sequence[LiveWorker]) -> list[LiveWorker]:
    """All workers by name; of very many those that compute longest, then those that compute least."""
    if len(workers) <= BARS:
        return sorted(workers, key=lambda worker: natural(worker.name))
    busiest = sorted(workers, key=lambda worker: (-(worker.useful or 0.0), worker.name))
    return busiest[: BARS // 2] + busiest[-BARS // 2 :]


def _planned_compute(run: RunState) -> dict[str, float]:
    """By worker: the compute seconds of a round that the plan expected; the workers with most rows have most."""
    if run.planned is None:
        return {}
    ordered = sorted(run.places, key=lambda place: -place.rows)
    pairs = zip(ordered, run.planned.round_compute, strict=False)
    return {place.worker: seconds / max(1, place.threads) for place, seconds in pairs}


def _row(worker: LiveWorker, live: LiveFigures, planned: float | None) -> tuple[str, ...]:
    name = text(worker.name)
    if worker.name == live.straggler:
        name += ' <span class="lost">waited for</span>'
    shares = [_share(each, live.seconds) for each in (worker.useful, worker.transfer, worker.wait, worker.other)]
    sent = "–" if worker.bytes_per_round is None else nbytes(worker.bytes_per_round)
    expected = "–" if planned is None else f"{1e3 * planned:,.1f} ms"
    return name, shares[0], expected, *shares[1:], sent


def _share(seconds: float | None, whole: float) -> str:
    return "–" if seconds is None else f"{1e3 * seconds:,.1f} ms, {seconds / whole:.0%}"


def _sentence(live: LiveFigures) -> str:
    if live.PE is None:
        return f"A round takes {_duration_of(live.seconds)} on {count(len(live.workers), 'worker')}. {ON_GPU}"
    if len(live.workers) == 1:
        said = f"One worker: its training thread computes for {live.PE:.0%} of the time; it has no peer to wait for."
        return f"{said} {alone(live)}".strip()
    said = f"{live.PE:.0%} of all workers' time is compute."
    if (queued := without_core(live)) >= CROWDED:
        said += f" For {queued:.0%} of it they have no core: their machines run more threads than they have cores."
    if live.straggler is None:
        return f"{said} No worker keeps the others waiting."
    waits = [worker.wait or 0.0 for worker in live.workers if worker.name != live.straggler]
    most = f"{1e3 * sum(waits) / len(waits):,.0f} ms of a round's {_duration_of(live.seconds)}"
    return f"{said} The others wait for <b>worker {text(live.straggler)}</b>, {most} on average."


def without_core(live: LiveFigures) -> float:
    """The share of all workers' time in which they were ready and had no core; 0 where that is unknown."""
    return sum(worker.queued or 0.0 for worker in live.workers) / len(live.workers) / live.seconds


def alone(live: LiveFigures) -> str:
    """What a single worker does while it does not compute; empty where it always computes."""
    (worker,) = live.workers
    queued, other = (worker.queued or 0.0) / live.seconds, (worker.other or 0.0) / live.seconds
    said = [f"For {queued:.0%} it has no core: its machine runs more threads than it has cores."] * (queued >= CROWDED)
    if other - queued >= CROWDED:
        said.append(f"For {other - queued:.0%} it waits: {WAITS}.")
    return " ".join(said)


def _duration_of(seconds: float) -> str:
    """A round's duration, in milliseconds where that is more readable."""
    if seconds < 1:
        return f"{1e3 * seconds:,.0f} ms"
    return f"{seconds:.3g} s" if seconds < 60 else duration(seconds)


def _cards(live: LiveFigures) -> str:
    if live.PE is None:
        return card("A round", _duration_of(live.seconds), f"mean of the last {count(live.rounds, 'round')}")
    compute = sum(worker.useful or 0.0 for worker in live.workers) / len(live.workers)
    kind = "good" if live.PE >= GOOD else "" if len(live.workers) == 1 else "warn"
    cards = [
        card("PE, parallel efficiency", f"{live.PE:.3f}", "compute in all workers' time; LB x SerE x TE", kind),
        card("A round", _duration_of(live.seconds), f"{_duration_of(compute)} of it compute, on average"),
    ]
    if len(live.workers) > 1:
        none = "saturated: next to no overhead"
        cards += [
            card(
                "E, compute per overhead",
                "–" if live.E is None else f"{live.E:,.2f}",
                "weighted by capability" if live.E else none,
            ),
            card(
                "J, imbalance",
                "–" if live.J is None else f"{live.J:.2f}",
                "of the overheads; 1 is even" if live.J else none,
            ),
            card("LB, load balance", _factor(live.LB), "mean compute by the longest"),
            card("SerE, serialisation", _factor(live.SerE), "CommE / TE; 1 without waiting"),
            card("TE, transfer", _factor(live.TE), "at least; 1 without transfer"),
        ]
    return "".join(cards)


def _factor(number: float | None) -> str:
    return "–" if number is None else f"{number:.3f}"


def parts() -> list[Component]:
    """The page from top to bottom."""
    return [Factors(), EfficiencyPanel(), EfficiencyTable()]


class EfficiencyPanel:
    """The last rounds and all since the start, next to each other."""

    def __init__(self) -> None:
        self._shares = (Shares(since_start=False), Shares(since_start=True))
        self.root = Row(
            children=[one.root for one in self._shares], sizing_mode="stretch_width", styles={"flex-wrap": "wrap"}
        )

    def update(self, run: RunState | None, now: float) -> None:
        for one in self._shares:
            one.update(run, now)
        self.root.visible = any(one.root.visible for one in self._shares)
