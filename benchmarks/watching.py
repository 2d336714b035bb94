"""Measures what the training's pages cost a scheduler: hours of events of very many workers, at the throttled rate.

    python -m benchmarks.watching

Feeds a board as the scheduler's plugin does, one message after the other, and prints how much memory that takes (the
target is under 100 MB) and what share of one core it would be in real time, with the 170 us that Dask itself needs for
a message (under 5 %); then how long each page takes to draw.
"""

import gc
import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click
import psutil
from bokeh.document import Document

from benchmarks import record
from pipeline.dashboard.pages.registry import PAGES
from pipeline.dashboard.window import SHARE
from pipeline.events.types import Event, Note, Place, Placed, RoundDone, Started, WorkerRounds, decode, encode
from pipeline.monitoring.state.run_store import RunStore
from pipeline.training.xgboost.rounds import ACCOUNT_SECONDS, ACCOUNTS_A_SECOND, EVENT_SECONDS

BEGIN = 1_790_000_000.0  # seconds since the epoch
ALL_WORKERS = ACCOUNTS_A_SECOND  # messages a second of all workers together, and
ONE_WORKER = 1 / ACCOUNT_SECONDS  # of a single one at most: both are the throttle's limits
DASK_SECONDS = 170e-6  # of a scheduler's core for any message


@click.command(help=__doc__)
@click.option("--workers", type=click.IntRange(1), default=1_000, show_default=True)
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=8.0, show_default=True)
@click.option("--name", default="watching", show_default=True, help="Of the record; an empty one: none is written.")
def command(workers: int, hours: float, name: str) -> None:
    circumstances = record.circumstances()
    board, process = RunStore(), psutil.Process()
    documents = {page.route: Document() for page in PAGES}  # Bokeh's own memory is not the board's
    gc.collect()
    before, spent, messages, most = process.memory_info().rss, 0.0, 0, 0
    for said in stream(workers, hours * 3600):
        begin = time.process_time()
        for message in said:
            board.apply(message["run"], decode(message["event"]))
        spent += time.process_time() - begin
        messages += len(said)
        most = max(most, process.memory_info().rss)
    measured = {
        "workers": workers,
        "hours": hours,
        "messages": messages,
        "memory_nbytes": most - before,
        "seconds_per_message": spent / messages,
        "share_of_a_core": spent / (hours * 3600),
        "share_of_a_core_with_dask": (spent + messages * DASK_SECONDS) / (hours * 3600),
        "draw_seconds": {page.route: _draw(page, documents[page.route], board) for page in PAGES},
        "share_of_a_core_per_window": SHARE,  # at most; a page that takes long to draw is drawn less often
    }
    click.echo(_text(measured))
    if name:
        record.write(name, {"circumstances": circumstances, **measured})


def stream(workers: int, seconds: float) -> Iterator[list[Mapping[str, Any]]]:
    """Returns the messages of each second, in order of arrival: plain dicts."""
    names = [f"tcp://10.0.{i // 250}.{i % 250}:40000" for i in range(workers)]
    places = tuple(Place(worker=name, rows=10**6, share=1 / workers, capability=1 / workers, threads=4,
                         memory_limit_nbytes=16 * 10**9, planned_nbytes=9 * 10**9) for name in names)  # fmt: skip
    yield [_message(Started(time=BEGIN, verb="train", run="long")), _message(Placed(time=BEGIN, workers=places))]
    a_second = min(ONE_WORKER, ALL_WORKERS / workers)
    turns, due = itertools.cycle(names), 0.0
    for second in range(int(seconds)):
        now, said = BEGIN + second, []
        number = second + 1  # a round a second
        if second % EVENT_SECONDS == 0:
            said.append(_message(_round(now, number, int(seconds))))
        due += a_second * workers
        while due >= 1:
            due -= 1
            said.append(_message(_worked(now, next(turns), number, 1 / a_second)))
        yield said


def _round(now: float, number: int, rounds: int) -> Event:
    metrics = {"train.logloss": 0.3 + 1 / number, "validation.logloss": 0.35 + 1 / number}
    return RoundDone(time=now, round=number, rounds=rounds, metrics=metrics, best_round=number, rows_per_second=2e9)


def _worked(now: float, worker: str, number: int, seconds: float) -> Event:
    return WorkerRounds(
        time=now, worker=worker, first=max(1, number - round(seconds) + 1), round=number, seconds=seconds,
        cpu_seconds=0.8 * seconds, runqueue_seconds=0.01, bytes_sent=10**6, memory_nbytes=8 * 10**9,
    )  # fmt: skip


def _message(event: Event) -> Mapping[str, Any]:
    return {"run": "long", "event": encode(event)}


def _draw(page: Any, document: Document, board: RunStore) -> float:
    """Returns the seconds to bring an open page up to date."""
    page.make(document, lambda: board, lambda: BEGIN)
    board.apply("long", Note(time=BEGIN, message=page.route))
    begin = time.process_time()
    for callback in document.session_callbacks:
        callback.callback()
    return time.process_time() - begin


def _text(measured: Mapping[str, Any]) -> str:
    draws = ", ".join(f"{route} {1e3 * seconds:.0f} ms" for route, seconds in measured["draw_seconds"].items())
    return (
        f"{measured['workers']:,} workers, {measured['hours']:g} h: {measured['messages']:,} messages, "
        f"{1e6 * measured['seconds_per_message']:.1f} us each, {measured['share_of_a_core']:.2%} of a core "
        f"({measured['share_of_a_core_with_dask']:.2%} with Dask's own), "
        f"{measured['memory_nbytes'] / 1e6:.0f} MB; pages drawn in {draws}"
    )


if __name__ == "__main__":
    command()
