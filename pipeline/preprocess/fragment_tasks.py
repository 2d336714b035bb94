"""Runs the tasks of a pass: one per fragment, on its worker if possible; recomputes lost results."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

from dask.typing import Key
from distributed import Client, Future, KilledWorker
from distributed.scheduler import NoValidWorkerError, NoWorkerError

from pipeline.data.fragments import Fragment, Piece
from pipeline.data.opened_sources import Inputs
from pipeline.data.partitions import CollectionPartitions, CollectionSlice, rows_between
from pipeline.data.source import Source
from pipeline.errors import TrainingError
from pipeline.events.types import EventHandler, FragmentDone
from pipeline.preprocess.fit import FragmentTask
from pipeline.runtime.context import RunContext
from pipeline.runtime.future_set import FutureSet
from pipeline.runtime.shared_value import SharedValue, cancelled_by_others, is_usable

POLL_SECONDS = 0.5  # how often a pass checks whether its run has ended

# As `wait_for`.
Wait = Callable[[Sequence[Future], str, EventHandler, Sequence[FragmentTask], Callable[[], None]], None]


class InMemoryRows:
    """In-memory rows on the cluster: sent once, and again after the worker that held them is lost."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sent: dict[tuple[Piece, ...], list[Future]] = {}  # by what the fragment is made of
        self._partitions: dict[int, Future] = {}  # of a Dask collection, whole

    def of(self, source: Source, fragment: Fragment) -> list[Future] | None:
        """A fragment's rows, in parts; None for files.

        Partitions of a Dask collection are computed on the cluster, once, and cut there; Arrow slices are sent.
        """
        if source.frame is None:
            return None
        sent = self._sent.get(fragment.pieces, [])
        if not sent or not all(map(is_usable, sent)):
            if isinstance(source.frame, CollectionPartitions):
                sent = [self._part(source.frame, part) for part in source.frame.parts(fragment)]
            else:
                sent = [self._client.scatter(source.payload(fragment), hash=False)]
            self._sent[fragment.pieces] = sent
        return sent

    def _part(self, partitions: CollectionPartitions, part: CollectionSlice) -> Future:
        whole = self._partitions.get(part.partition)
        if whole is None or not is_usable(whole):
            whole = self._client.compute(partitions.delayed[part.partition])
            self._partitions[part.partition] = whole
        if part.whole:
            return whole
        return self._client.submit(rows_between, whole, part.start, part.stop, pure=False)

    def recut(self) -> None:
        """Drops the futures of fragments, which are about to change; whole partitions stay."""
        self._sent.clear()

    def keep_fragments(self) -> None:
        """Drops whole partitions, whose rows are now in fragments: they would count twice in a worker's memory."""
        self._partitions.clear()

    def release(self) -> None:
        """Releases all futures."""
        self._sent.clear()
        self._partitions.clear()


def wait_for(
    futures: Sequence[Future],
    stage: str,
    on_event: EventHandler,
    units: Sequence[FragmentTask],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Waits for all futures and emits how many are done; the first error releases the others and is raised.

    An error that `check` raises, which is called at intervals, has the same effect.
    """
    of: dict[Key, FragmentTask] = {future.key: unit for future, unit in zip(futures, units, strict=True)}
    done, done_rows, pending = 0, 0, FutureSet(futures)
    try:
        while pending:
            check()
            for future in pending.wait_any(POLL_SECONDS):
                if future.status != "finished":
                    future.result()
                done += 1
                done_rows += of[future.key].fragment.rows or 0
                on_event(FragmentDone(stage=stage, done=done, total=len(futures), rows=done_rows))
    except BaseException:
        # Released, not cancelled: if the follow-up tasks are unwanted too, the scheduler (2026.7, `stimulus_cancel`)
        # fails at a cancellation and drops the client.  The scheduler does not start tasks that no client wants.
        for future in futures:
            future.release()
        raise


class _WorkersReplaced(Exception):
    """All worker processes that a pass began on have been replaced by others."""


class FragmentTasks:
    """Runs a pass: one task for each unit, on the unit's worker where that is possible, and its follow-up tasks.

    Dask recomputes a lost worker's results elsewhere; if in-memory rows were lost with it, they are sent again and the
    pass restarts.  It also restarts when another client restarts the workers, which cancels the tasks of all clients.
    """

    def __init__(
        self, context: RunContext, inputs: Inputs, in_memory_rows: InMemoryRows, wait: Wait = wait_for
    ) -> None:
        self._context, self._in_memory_rows, self._wait = context, in_memory_rows, wait
        self._sources = {fragment.index: source for source in inputs.sources for fragment in source.fragments}

    def run[Result](
        self,
        stage: str,
        units: Sequence[FragmentTask],
        then: Callable[[list[Future]], Callable[[], Result]],
        task: Callable[..., Any],
        *arguments: Any,
    ) -> Result:
        """`task(unit, payload, *arguments)` for each unit; `then` submits the follow-up tasks and returns a function
        that fetches their result.
        """
        for again in range(self._context.job.training.max_restarts + 1):
            workers = self._context.membership.processes()
            futures = self._submit(units, workers, task, *arguments)
            fetch = then(futures)
            try:
                self._wait(futures, stage, self._context.emit, units, functools.partial(self._check, workers))
                return self._context.membership.call(fetch)
            except _WorkersReplaced:
                self._begin_again(stage, units, again, "all workers were replaced by others")
            except (KilledWorker, NoValidWorkerError, NoWorkerError) as error:
                raise TrainingError(self._why_workers_died(stage, futures, units, error)) from None
            except CancelledError as error:
                if not cancelled_by_others(error):
                    raise
                self._context.membership.refresh()  # raises SchedulerLostError if that is the cause
                self._begin_again(stage, units, again, "another client cancelled this run's tasks (client.restart()?)")
        raise AssertionError("the last attempt returns or raises")

    def _check(self, workers: Mapping[str, str]) -> None:
        """Raises what must end the wait for tasks that were submitted to these worker processes.

        Dask (2026.7, `bulk_schedule_unrunnable_after_adding_worker`) never runs a task that only prefers a worker
        which is gone, if there was no other worker when it became runnable: such a pass has to restart.
        """
        self._context.membership.raise_if_lost(())
        present = self._context.membership.processes()
        if workers and present and not set(workers.values()) & set(present.values()):
            raise _WorkersReplaced

    def _begin_again(self, stage: str, units: Sequence[FragmentTask], again: int, why: str) -> None:
        """Emits why a pass is repeated; TrainingError after too many repetitions.

        In-memory rows are lost with their worker, for which an event was already emitted.
        """
        most = self._context.job.training.max_restarts
        if again == most:
            if (short := self._context.membership.out_of_memory(self._context.planned_nbytes)) is not None:
                raise TrainingError(f"{stage}: {short}") from None
            raise TrainingError(
                f"{stage}: given up after {again} restart{'s' * (again != 1)} (training.max_restarts = {most}): {why}"
            ) from None
        if all(self._sources[unit.fragment.index].frame is None for unit in units):
            self._context.emit_note(f"{stage}: {why}; the pass was started again")

    def _why_workers_died(
        self,
        stage: str,
        futures: Sequence[Future],
        units: Sequence[FragmentTask],
        error: KilledWorker | NoValidWorkerError | NoWorkerError,
    ) -> str:
        """The reason as text; it names a fragment only if no other cause is known."""
        membership = self._context.membership
        membership.refresh()  # raises SchedulerLostError if that is the cause
        if (short := membership.out_of_memory(self._context.planned_nbytes)) is not None:
            return f"{stage}: {short}"
        of = {future.key: unit.fragment for future, unit in zip(futures, units, strict=True)}
        fragment = of.get(error.task)
        where = "" if fragment is None else f", at fragment {fragment.index} ({fragment.pieces[0].path})"
        if isinstance(error, (NoValidWorkerError, NoWorkerError)):
            return f"{stage}: no worker was available for {error.timeout:g} s"
        lost = membership.lost_worker()
        last = "" if lost is None else f"; worker {lost[0]}: {lost[1]}"
        return f"{stage}: workers died {error.allowed_failures + 1} times{where}{last}"

    def _submit(
        self, units: Sequence[FragmentTask], workers: Collection[str], task: Callable[..., Any], *arguments: Any
    ) -> list[Future]:
        """One future of `task(unit, payload, *arguments)` for each unit, in their order; shared values as their
        futures.

        `workers`: the addresses that tasks may prefer.
        """
        return [
            self._context.client.submit(
                task,
                unit,
                self._in_memory_rows.of(self._sources[unit.fragment.index], unit.fragment),
                *(one.future() if isinstance(one, SharedValue) else one for one in arguments),
                workers=[unit.worker] if unit.worker in workers else None,
                allow_other_workers=unit.worker in workers,
                pure=False,
            )
            for unit in units
        ]


def result_of(future: Future) -> Any:
    """What the task returned or raised; workers that died under it become a TrainingError."""
    try:
        return future.result()
    except (KilledWorker, NoValidWorkerError, NoWorkerError):
        raise TrainingError("workers died repeatedly while they processed the data") from None


def identity[Value](value: Value) -> Value:
    """Identity task that holds a value: Dask recomputes it if its worker dies."""
    return value
