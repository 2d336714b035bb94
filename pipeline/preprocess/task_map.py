"""Runs the tasks of a pass: one for each fragment, on its worker where that can be; what is lost is made again."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

from dask.typing import Key
from distributed import Client, Future, KilledWorker
from distributed.scheduler import NoValidWorkerError, NoWorkerError

from pipeline.data.fragments import Fragment, Piece
from pipeline.data.inputs import Inputs
from pipeline.data.partitions import Part, Partitions, rows_between
from pipeline.data.source import Source
from pipeline.errors import TrainingError
from pipeline.events.types import FragmentDone, Listener
from pipeline.preprocess.fit import Unit
from pipeline.runtime.context import Walk
from pipeline.runtime.pending import Pending
from pipeline.runtime.shared_value import SharedValue, cancelled_by_others, is_usable

POLL_SECONDS = 0.5  # how often a pass looks whether its run is over


class Payloads:
    """Rows that were in memory, on the cluster: sent once, and again where the worker that had them is gone."""

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
            if isinstance(source.frame, Partitions):
                sent = [self._part(source.frame, part) for part in source.frame.parts(fragment)]
            else:
                sent = [self._client.scatter(source.payload(fragment), hash=False)]
            self._sent[fragment.pieces] = sent
        return sent

    def _part(self, partitions: Partitions, part: Part) -> Future:
        whole = self._partitions.get(part.partition)
        if whole is None or not is_usable(whole):
            whole = self._client.compute(partitions.delayed[part.partition])
            self._partitions[part.partition] = whole
        if part.whole:
            return whole
        return self._client.submit(rows_between, whole, part.start, part.stop, pure=False)

    def recut(self) -> None:
        """Forgets fragments that are others now; whole partitions stay."""
        self._sent.clear()

    def keep_fragments(self) -> None:
        """Forgets whole partitions whose rows are in fragments by now: they would count twice in a worker's memory."""
        self._partitions.clear()

    def release(self) -> None:
        """Lets the cluster forget all of them."""
        self._sent.clear()
        self._partitions.clear()


class _WorkersReplaced(Exception):
    """None of the worker processes that a pass began on is there any more, and others are."""


class Passing:
    """Runs a pass: one task for each unit, on the unit's worker where that is possible, and what follows from them.

    What a lost worker had is made again elsewhere, by Dask; rows from memory that went with it are sent again, and
    the pass begins anew.  So it does where another client restarts the workers, which cancels the tasks of all clients.
    """

    def __init__(self, walk: Walk, inputs: Inputs, payloads: Payloads) -> None:
        self._walk, self._payloads = walk, payloads
        self._sources = {fragment.index: source for source in inputs.sources for fragment in source.fragments}

    def run[Result](
        self,
        stage: str,
        units: Sequence[Unit],
        follow: Callable[[list[Future]], Callable[[], Result]],
        task: Callable[..., Any],
        *arguments: Any,
    ) -> Result:
        """`task(unit, payload, *arguments)` for each unit; `follow` submits what comes after, and gives what fetches it."""
        for again in range(self._walk.job.training.max_restarts + 1):
            workers = self._walk.members.processes()
            futures = self._submit(units, workers, task, *arguments)
            fetch = follow(futures)
            try:
                wait_for(futures, stage, self._walk.listen, units, functools.partial(self._check, workers))
                return self._walk.members.call(fetch)
            except _WorkersReplaced:
                self._begin_again(stage, units, again, "all workers were replaced by others")
            except (KilledWorker, NoValidWorkerError, NoWorkerError) as error:
                raise TrainingError(self._why_workers_died(stage, futures, units, error)) from None
            except CancelledError as error:
                if not cancelled_by_others(error):
                    raise
                self._walk.members.look()  # SchedulerLostError, where that is why
                self._begin_again(stage, units, again, "another client cancelled this run's tasks (client.restart()?)")
        raise AssertionError("the last attempt returns or raises")

    def _check(self, workers: Mapping[str, str]) -> None:
        """Raises what ends the wait for tasks that were submitted when these worker processes were there.

        Dask (2026.7, `bulk_schedule_unrunnable_after_adding_worker`) never runs a task that only prefers a worker
        which is gone, if no other one was there when it was to run: such a pass has to begin again.
        """
        self._walk.members.check(())
        present = self._walk.members.processes()
        if workers and present and not set(workers.values()) & set(present.values()):
            raise _WorkersReplaced

    def _begin_again(self, stage: str, units: Sequence[Unit], again: int, why: str) -> None:
        """Says why a pass is repeated; TrainingError where it was too often.

        Rows from memory are lost with their worker, which is told as such already.
        """
        most = self._walk.job.training.max_restarts
        if again == most:
            raise TrainingError(
                f"{stage}: given up after {again} restart{'s' * (again != 1)} (training.max_restarts = {most}): {why}"
            ) from None
        if all(self._sources[unit.fragment.index].frame is None for unit in units):
            self._walk.note(f"{stage}: {why}; the pass was started again")

    def _why_workers_died(
        self,
        stage: str,
        futures: Sequence[Future],
        units: Sequence[Unit],
        error: KilledWorker | NoValidWorkerError | NoWorkerError,
    ) -> str:
        """A fragment is named only where nothing else is known to be at fault."""
        members = self._walk.members
        members.look()  # SchedulerLostError, where that is why
        if (short := members.out_of_memory(self._walk.planned_nbytes)) is not None:
            return f"{stage}: {short}"
        of = {future.key: unit.fragment for future, unit in zip(futures, units, strict=True)}
        fragment = of.get(error.task)
        where = "" if fragment is None else f", at fragment {fragment.index} ({fragment.pieces[0].path})"
        if isinstance(error, (NoValidWorkerError, NoWorkerError)):
            return f"{stage}: no worker was there for {error.timeout:g} s"
        lost = members.missing()
        last = "" if lost is None else f"; worker {lost[0]}: {lost[1]}"
        return f"{stage}: workers died {error.allowed_failures + 1} times{where}{last}"

    def _submit(
        self, units: Sequence[Unit], workers: Collection[str], task: Callable[..., Any], *arguments: Any
    ) -> list[Future]:
        """One future of `task(unit, payload, *arguments)` for each unit, in their order; shared values as their futures.

        `workers`: the addresses that tasks may prefer.
        """
        return [
            self._walk.client.submit(
                task,
                unit,
                self._payloads.of(self._sources[unit.fragment.index], unit.fragment),
                *(one.future() if isinstance(one, SharedValue) else one for one in arguments),
                workers=[unit.worker] if unit.worker in workers else None,
                allow_other_workers=unit.worker in workers,
                pure=False,
            )
            for unit in units
        ]


def wait_for(
    futures: Sequence[Future],
    stage: str,
    listen: Listener,
    units: Sequence[Unit],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Waits for all futures and says how many are done; the first error lets go of the others and is raised.

    So does what `check` raises, which is called now and then.
    """
    of: dict[Key, Unit] = {future.key: unit for future, unit in zip(futures, units, strict=True)}
    done, done_rows, pending = 0, 0, Pending(futures)
    try:
        while pending:
            check()
            for future in pending.ended(POLL_SECONDS):
                if future.status != "finished":
                    future.result()
                done += 1
                done_rows += of[future.key].fragment.rows or 0
                listen(FragmentDone(stage=stage, done=done, total=len(futures), rows=done_rows))
    except BaseException:
        # Not cancelled: where what follows is not wanted any more, the scheduler (2026.7, `stimulus_cancel`) fails at that
        # and drops the client.  What nobody wants it does not begin.
        for future in futures:
            future.release()
        raise


def result_of(future: Future) -> Any:
    """What the task returned or raised; workers that died under it become a TrainingError."""
    try:
        return future.result()
    except (KilledWorker, NoValidWorkerError, NoWorkerError):
        raise TrainingError("workers died again and again while they worked on the data") from None


def as_it_is[Value](value: Value) -> Value:
    """A task that holds a value: what is lost with a worker comes back with the task."""
    return value
