"""The pages' cost, for a few minutes of as many workers as the benchmark has for hours."""

from click.testing import CliRunner

from benchmarks.watching import ALL_WORKERS, command, stream
from pipeline.events.types import WorkerRounds, decode
from pipeline.monitoring.state.run_store import RunStore


def test_the_stream_comes_at_the_throttled_rate() -> None:
    seconds = [[decode(message["event"]) for message in said] for said in stream(1_000, 60)][1:]
    worked = [event for said in seconds for event in said if isinstance(event, WorkerRounds)]
    assert len(worked) == 60 * ALL_WORKERS
    assert [len(said) - ALL_WORKERS for said in seconds] == [1, 0] * 30  # a round event every two seconds
    each = [event.time for event in worked if event.worker == worked[0].worker]
    assert len(each) == 60 * ALL_WORKERS // 1_000


def test_all_workers_are_heard() -> None:
    board = RunStore()
    for said in stream(40, 20):
        for message in said:
            board.apply(message["run"], decode(message["event"]))
    assert {worker.sums.rounds > 0 for worker in board.runs["long"].workers.values()} == {True}


def test_it_says_what_it_costs() -> None:
    result = CliRunner().invoke(command, ["--hours", "0.01", "--workers", "20", "--name", ""])
    assert result.exit_code == 0, result.output
    assert "of a core" in result.output
