"""Progress from events alone, with a clock of our own."""

import io

from pipeline.cli.progress import Bars, Lines, listening
from pipeline.events.types import (
    BlocksDone,
    Evaluated,
    FragmentDone,
    Note,
    Planned,
    RoundDone,
    Skipped,
    StatisticsDone,
    WorkerLost,
    WorkerRounds,
)

PLAN = Planned(rows=1_000, features=3, fragments=10, workers=2, threads=1, nbytes=5_000_000)

WORKED = WorkerRounds(
    worker="0", first=1, round=2, seconds=1.0, cpu_seconds=0.9, runqueue_seconds=0.0, bytes_sent=0, memory_nbytes=1
)


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def round_done(number: int, best: int | None = None) -> RoundDone:
    metrics = {"validation.logloss": 1 / number}
    return RoundDone(round=number, rounds=100, metrics=metrics, best_round=best or number, rows_per_second=1e6)


def test_one_line_every_five_seconds_and_the_last_state():
    lines: list[str] = []
    clock = Clock()
    listen = Lines(lines.append, clock)
    listen(PLAN)
    for done in range(1, 11):
        listen(FragmentDone(stage="statistics", done=done, total=10, rows=100))
        clock.seconds += 1
    listen(StatisticsDone(rows=1_000, seconds=10))
    for number in range(1, 13):
        listen(round_done(number))
        listen(WORKED)
        clock.seconds += 1
    listen(Evaluated(metrics={}, seconds=1))
    assert lines == [
        "plan: 1,000 rows, 3 features, 10 fragments; 2 workers x 1 thread; about 5 MB of memory",
        "statistics: 6/10 fragments",
        "statistics: 1,000 rows in 10.0 s",
        "round 6/100: validation.logloss 0.16667, 1,000,000 rows/s, 94 s left",
        "round 11/100: validation.logloss 0.090909, 1,000,000 rows/s, 89 s left",
        "round 12/100: validation.logloss 0.083333, 1,000,000 rows/s, 88 s left",
    ]


def test_what_happens_is_reported_at_once():
    lines: list[str] = []
    listen = Lines(lines.append, Clock())
    listen(round_done(1))
    listen(Note(message="oversubscribed"))
    listen(WorkerLost(worker="w0", stage="rounds", round=1, reason="killed"))
    listen(Skipped(fragment=1, reason="/a.csv: damaged"))  # a note names it, with all others
    listen(BlocksDone(rows=5, nbytes=2_000, seconds=0.1))
    assert lines == [
        "note: oversubscribed",
        "round 1/100: validation.logloss 1, 1,000,000 rows/s",
        "worker w0 lost at round 1: killed",
        "blocks: 5 rows, 2 kB, in 0.1 s",
    ]


def test_predictions_end_with_a_line():
    lines: list[str] = []
    listen = Lines(lines.append, Clock())
    listen(FragmentDone(stage="predict", done=1, total=2, rows=5))
    listen(FragmentDone(stage="predict", done=2, total=2, rows=5))
    assert lines == ["predict: 2/2 fragments"]


def test_bars_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with listening(stream) as listen:
        assert isinstance(listen, Bars)
        listen(PLAN)
        listen(FragmentDone(stage="statistics", done=10, total=10, rows=100))
        listen(round_done(37))
        listen(RoundDone(round=38, rounds=100, metrics={}, best_round=38, rows_per_second=1e6))
    shown = stream.getvalue()
    assert "plan: 1,000 rows" in shown
    assert "10/10" in shown
    assert "38/100" in shown, "a round in which nothing was measured"


def test_quiet_says_nothing():
    stream = io.StringIO()
    with listening(stream, quiet=True) as listen:
        listen(PLAN)
    assert stream.getvalue() == ""
