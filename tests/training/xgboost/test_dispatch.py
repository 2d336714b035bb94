"""What the client sees of a training: events, the first real error, and that it can be stopped."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.config
import numpy as np
import pytest
import xgboost
from distributed import Client, LocalCluster, wait
from distributed.core import Status

from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.errors import JobError, TrainingError, WorkerLostError
from pipeline.events.types import Event, Note, RoundDone, WorkerRounds
from pipeline.runtime.membership import WorkerMembership
from pipeline.training.state import State
from pipeline.training.trainer import TrainingCallbacks
from pipeline.training.xgboost import rounds, slow_rounds
from pipeline.training.xgboost.communicator import worker_locks
from pipeline.training.xgboost.dispatch import replicate_state, run_training
from pipeline.training.xgboost.matrix import build_partition
from pipeline.training.xgboost.rounds import EVENT_SECONDS, train_rounds

LONG = 1_000_000  # rounds that never end


def build(client: Client, case: Any, workers: list[str]) -> list[Any]:
    cuts = case.cuts()
    blocks = case.blocks(cuts)
    partitions = [
        client.submit(
            build_partition, blocks[rank :: len(workers)], cuts, case.names, threads=1, workers=[worker], pure=False
        )
        for rank, worker in enumerate(workers)
    ]
    wait(partitions)
    return partitions


def seconds_until_idle(client: Client, workers: list[str]) -> float:
    """How long it takes until each worker's only thread does something else."""
    start = time.monotonic()
    wait([client.submit(time.time, workers=[worker], pure=False) for worker in workers], timeout=30)
    return time.monotonic() - start


@pytest.fixture
def shared(make_cluster: Callable[[int, int], Any]) -> tuple[Client, list[str]]:
    client = make_cluster(3, 1)
    return client, sorted(scheduler_info(client)["workers"])


@pytest.mark.parametrize("world", [1, 2])
def test_events_report_the_rounds(shared: Any, make_case: Any, world: int) -> None:
    client, workers = shared
    case = make_case(rounds=30)
    heard: list[Event] = []
    partitions = build(client, case, workers[:world])
    trained = run_training(client, partitions, workers[:world], case.spec(), TrainingCallbacks(on_event=heard.append))
    rounds = [event.round for event in heard if isinstance(event, RoundDone)]
    assert rounds == sorted(set(rounds))
    assert rounds[-1] == trained.result.rounds == 30
    last = [event for event in heard if isinstance(event, RoundDone)][-1]
    assert last.rows_per_second > 0
    assert set(last.metrics) >= {"validation.logloss", "validation.auc"}
    assert (
        last.best == trained.result.history["validation.logloss"][-1]
    )  # the metric that decides, without early stopping
    names = {str(facts["name"]) for at, facts in scheduler_info(client)["workers"].items() if at in workers[:world]}
    told = [event for event in heard if isinstance(event, WorkerRounds)]
    assert {event.worker for event in told} == names
    for name in names:
        parts = [event for event in told if event.worker == name]
        assert [event.first for event in parts] == [1, *(event.round + 1 for event in parts[:-1])]
        assert parts[-1].round == 30
        assert all(0 < event.cpu_seconds < event.seconds * 1.5 and event.runqueue_seconds >= 0 for event in parts)
        assert all(event.memory_nbytes > 50e6 and event.gpu_memory_nbytes is None for event in parts)
        assert all((event.bytes_sent == 0) == (world == 1) for event in parts[:-1])


def test_two_trainings_at_once_both_end(shared: Any, make_case: Any) -> None:
    client, workers = shared
    case = make_case()
    sets = [build(client, case, order) for order in (workers[:2], workers[1::-1])]
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda p=p, w=w: results.append(run_training(client, p, w, case.spec())))
        for p, w in zip(sets, (workers[:2], workers[1::-1]), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 2


@pytest.mark.parametrize("world", [1, 3])
def test_the_first_real_error_names_its_worker(shared: Any, make_case: Any, world: int) -> None:
    client, workers = shared
    case = make_case()
    labels = case.label.copy()
    labels[-3] = np.nan  # of the last fragment
    bad = dataclasses.replace(case, label=labels)
    with pytest.raises(TrainingError, match=f"worker {workers[world - 1]}") as caught:
        run_training(client, build_in_order(client, bad, workers[:world]), workers[:world], case.spec())
    assert "\n" not in str(caught.value)
    assert "label" in str(caught.value).lower()
    assert seconds_until_idle(client, workers) < 5


def build_in_order(client: Client, case: Any, workers: list[str]) -> list[Any]:
    """As `build`, but the last fragments are on the last worker."""
    cuts = case.cuts()
    blocks = case.blocks(cuts)
    share = len(blocks) // len(workers)
    partitions = [
        client.submit(
            build_partition, blocks[rank * share : (rank + 1) * share], cuts, case.names, threads=1,
            workers=[worker], pure=False,
        )
        for rank, worker in enumerate(workers)
    ]  # fmt: skip
    wait(partitions)
    return partitions


@pytest.mark.parametrize(("params", "message"), [({"max_depth": -3}, "max_depth"), ({"eta": "fast"}, "parsed")])
def test_a_bad_parameter_value_is_the_users_mistake(
    shared: Any, make_case: Any, params: dict[str, Any], message: str
) -> None:
    client, workers = shared
    case = make_case(params=params)
    with pytest.raises(JobError, match=message) as caught:
        run_training(client, build(client, case, workers[:1]), workers[:1], case.spec())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("world", [1, 3])
def test_interrupt_stops_the_workers(shared: Any, make_case: Any, world: int) -> None:
    client, workers = shared
    case = make_case(rounds=LONG)
    partitions = build(client, case, workers[:world])
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run_training(client, partitions, workers[:world], case.spec())
    assert seconds_until_idle(client, workers) < 5


CLIENT = """
import sys
sys.path[:0] = [{root!r}]
import dask.config
dask.config.set({{"distributed.scheduler.locks.lease-timeout": "3s"}})  # 30 s otherwise
from distributed import Client
from tests.training.conftest import make_case
from tests.training.xgboost.test_dispatch import LONG, build
from pipeline.training.xgboost.dispatch import run_training
from pipeline.training.trainer import TrainingCallbacks
client = Client({scheduler!r})
workers = {workers!r}
case = make_case(rounds=LONG)
run_training(client, build(client, case, workers), workers, case.spec(), TrainingCallbacks(on_event=lambda event: print(event, flush=True)))
"""


@pytest.mark.slow
def test_a_killed_client_leaves_no_worker_boosting_and_no_lock(make_case: Any) -> None:
    with (
        dask.config.set({"distributed.scheduler.locks.lease-validation-interval": "1s"}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        workers = sorted(scheduler_info(client)["workers"])
        root = str(Path(__file__).parents[3])
        code = CLIENT.format(root=root, scheduler=client.scheduler.address, workers=workers)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert "RoundDone" in process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
        assert seconds_until_idle(client, workers) < 5
        case = make_case()
        done: list[Any] = []
        partitions = build(client, case, workers)
        thread = threading.Thread(
            target=lambda: done.append(run_training(client, partitions, workers, case.spec())), daemon=True
        )
        thread.start()
        thread.join(30)
        assert done


@pytest.mark.slow
def test_a_lost_worker_is_named(make_case: Any) -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        workers = sorted(scheduler_info(client)["workers"])
        case = make_case(rounds=LONG)
        partitions = build(client, case, workers)
        pid = client.run(os.getpid, workers=[workers[1]])[workers[1]]
        threading.Timer(1.5, os.kill, (pid, signal.SIGKILL)).start()
        start = time.monotonic()
        with pytest.raises(TrainingError, match=f"worker {workers[1]} was lost"):
            run_training(client, partitions, workers, case.spec())
        assert time.monotonic() - start < 12


def state_of(case: Any) -> State:
    """A state to resume from, after two rounds."""
    cuts = case.cuts()
    partition = build_partition(case.blocks(cuts), cuts, case.names, threads=1)
    state = train_rounds(partition, dataclasses.replace(case.spec(), rounds=2)).state
    assert state is not None
    return state


@pytest.mark.slow
def test_a_worker_that_went_before_the_rounds_is_named(make_case: Any) -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
        WorkerMembership(client) as members,
    ):
        workers = sorted(members.refresh())
        case = make_case(rounds=4)
        partitions, going = build(client, case, workers), TrainingCallbacks(start=state_of(case))
        assert run_training(client, partitions, workers, case.spec(), going, members).result.rounds == 4
        pid = client.run(os.getpid, workers=[workers[1]])[workers[1]]
        os.kill(pid, signal.SIGKILL)
        while workers[1] in members.refresh():
            time.sleep(0.05)
        with pytest.raises(WorkerLostError, match=f"worker {workers[1]} was lost"):
            run_training(client, partitions, workers, case.spec(), going, members)


def test_a_large_state_is_no_reason_to_warn(shared: Any, make_case: Any) -> None:
    client, workers = shared
    state = dataclasses.replace(state_of(make_case()), content=bytes(12 << 20))
    assert replicate_state(client, state, workers[:1]).result(10) == state


class Leaving:
    """Members of which one has left, without a cluster."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def call(self, ask: Callable[[], Any], workers: Any = ()) -> Any:
        return ask()

    def raise_if_lost(self, workers: Any) -> None:
        raise WorkerLostError(workers[0], "killed by signal 9")


def test_no_rank_waits_for_workers_that_have_left(shared: Any) -> None:
    client, workers = shared
    with WorkerMembership(client) as members, worker_locks(members, workers[:2], "a"), pytest.raises(WorkerLostError):  # noqa: SIM117
        with worker_locks(Leaving(client), workers[1:], "b"):  # type: ignore[arg-type]
            pass


@pytest.mark.slow
def test_a_paused_worker_continues(shared: Any, make_case: Any) -> None:
    """As one does whose memory has come near its limit: it takes on no more tasks, and keeps those it has."""
    client, workers = shared
    case = make_case(rounds=400)
    heard: list[Event] = []
    paused = threading.Event()

    def pause(event: Event) -> None:
        heard.append(event)
        paused.set()

    def status(name: str, dask_worker: Any = None) -> None:
        dask_worker.status = Status[name]

    def meanwhile() -> None:
        paused.wait(30)
        client.run(status, "paused", workers=[workers[1]])
        time.sleep(1.5)  # three times as long as a worker takes to look whether it is wanted
        client.run(status, "running", workers=[workers[1]])

    thread = threading.Thread(target=meanwhile)
    thread.start()
    partitions = build(client, case, workers[:2])
    try:
        trained = run_training(client, partitions, workers[:2], case.spec(), TrainingCallbacks(on_event=pause))
    finally:
        paused.set()
        thread.join()
    assert trained.result.rounds == 400


@pytest.mark.slow
def test_a_slow_round_is_reported_while_all_answer(
    shared: Any, make_case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, workers = shared
    case = make_case(rounds=30)
    monkeypatch.setattr(slow_rounds, "LEAST_SECONDS", 1.0)

    def slow_down(number: int) -> None:
        """Every round is emitted, and one waits."""
        update = xgboost.Booster.update

        def slow(self: Any, dtrain: Any, iteration: int, *rest: Any) -> None:
            time.sleep(5 if iteration == number - 1 else 0)
            update(self, dtrain, iteration, *rest)

        xgboost.Booster.update, xgboost.Booster.quick = slow, update
        rounds.EVENT_SECONDS = 0.0

    def as_before() -> None:
        xgboost.Booster.update = xgboost.Booster.quick
        rounds.EVENT_SECONDS = EVENT_SECONDS

    heard: list[Event] = []
    partitions = build(client, case, workers[:2])
    client.run(slow_down, 20, workers=workers[1:2])
    client.run(slow_down, 0, workers=workers[:1])
    try:
        run_training(client, partitions, workers[:2], case.spec(), TrainingCallbacks(on_event=heard.append))
    finally:
        client.run(as_before, workers=workers[:2])
    notes = [event.message for event in heard if isinstance(event, Note)]
    assert len(notes) == 1
    assert re.fullmatch(
        r"a round after 19 takes unusually long: \d s so far, the median is \S+ s; every worker answers", notes[0]
    )


def refuse(*_: object) -> None:
    raise ConnectionAbortedError("the handler has failed")


@pytest.mark.parametrize("who", ["on_event", "on_checkpoint"])
def test_an_error_of_the_handler_ends_the_training(shared: Any, make_case: Any, who: str) -> None:
    client, workers = shared
    case = make_case(rounds=LONG, options={"checkpoint_rounds": 5})
    partitions = build(client, case, workers[:2])
    with pytest.raises(ConnectionAbortedError, match="the handler has failed"):
        run_training(client, partitions, workers[:2], case.spec(), TrainingCallbacks(**{who: refuse}))
    assert seconds_until_idle(client, workers) < 5


def test_a_partition_cannot_be_sent(make_case: Any) -> None:
    import pickle

    case = make_case()
    cuts = case.cuts()
    partition = build_partition(case.blocks(cuts), cuts, case.names, threads=1)
    with pytest.raises(TypeError, match="stays on the worker"):
        pickle.dumps(partition)
    assert sys.getsizeof(partition) < 1_000
