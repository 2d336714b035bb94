"""Assigns fragments to workers and builds their quantised matrices; reassigns when workers leave or join."""

import time
from collections.abc import Sequence
from typing import Any, Literal

from distributed import Future

from pipeline.errors import DataError
from pipeline.events.types import MatrixDone, Place
from pipeline.planning.assignment import AssignableWorker, changed_shares, reassign, with_training_rows
from pipeline.planning.storage_plan import Storage
from pipeline.preprocess.bins import Cuts
from pipeline.preprocess.block import Block
from pipeline.preprocess.fit import BlockFacts
from pipeline.preprocess.prepare import PreparedData, assign_units, load, make_blocks
from pipeline.runtime.context import RunContext
from pipeline.runtime.shared_value import is_usable
from pipeline.runtime.task_errors import task
from pipeline.runtime.timing import span
from pipeline.storage.scratch import open_scratch
from pipeline.training.trainer import Partition, Trainer, WorkerMatrices


class WorkSet:
    """Which worker of a run holds which fragments, and the matrices built from them.

    Blocks exist only until their matrices are built.  If a share changes, its blocks are made again and its matrix is
    rebuilt: a quantised matrix cannot be extended.
    """

    def __init__(self, context: RunContext, prepared: PreparedData, trainer: Trainer[Any]) -> None:
        self._context, self._prepared, self._trainer = context, prepared, trainer
        self._owner = context.run  # that read the rows; blocks and matrices outlive a single training
        self._shares: dict[str, tuple[int, ...]] = {}  # address -> indices of the units
        self._built: dict[str, tuple[int, ...]] = {}  # address -> indices of the units that the matrix was built of
        self._matrices: dict[str, Future] = {}
        self._blocks: dict[int, Future] = {}  # by index
        self._facts: dict[int, BlockFacts] = {}
        self._storage: dict[str, Storage] = {}  # by address

    def adopt(self, context: RunContext, prepared: PreparedData) -> None:
        """Continues for another run, on the same rows."""
        self._context, self._prepared = context, prepared

    def ensure_matrices(self, *, reassign: bool = False) -> WorkerMatrices:
        """Returns the matrices on the workers of the run's placement; builds those that are missing.

        `reassign`: all fragments are assigned again, because there are more workers.  WorkerLostError if a worker leaves
        meanwhile: the next call uses the matrices that are complete.
        """
        context = self._context
        context.membership.track({worker.address: worker.process for worker in context.placement.workers})
        self._forget_lost()
        self._finish_builds()
        self._shares = self._assign() if reassign or not self._shares else self._reassign()
        self._choose_storage()
        if any(place not in self._facts for place in range(len(self._prepared.units))):
            self._make_blocks(self._shares)
        rows = {place: facts.train_rows for place, facts in self._facts.items()}
        self._shares = with_training_rows(self._shares, rows)
        if not self._shares:
            raise DataError(
                "no row is left to train on: see data.where, data.validation and the target's missing values"
            )
        self._choose_storage()
        missing = changed_shares(self._shares, self._built)
        self._make_blocks({address: self._shares[address] for address in missing})
        self._build(missing)
        self._blocks.clear()  # the workers drop them: from here on only the quantised matrices exist
        self._prepared.in_memory_rows.release()  # and rows that came from memory
        workers = tuple(self._shares)
        return WorkerMatrices(workers, tuple(self._matrices[address] for address in workers))

    def places(self) -> tuple[Place, ...]:
        """Returns where the rows are, by rank; requires `ensure_matrices`."""
        context, placed = self._context, {worker.address: worker for worker in self._context.placement.workers}
        rows = {
            address: sum(self._facts[place].train_rows + self._facts[place].validation_rows for place in share)
            for address, share in self._shares.items()
        }
        all_rows, rates = sum(rows.values()), sum(placed[address].capability for address in rows)
        return tuple(
            Place(
                worker=context.membership.names[address], rows=mine, share=mine / all_rows,
                capability=placed[address].capability / rates, threads=placed[address].threads,
                memory_limit_nbytes=placed[address].memory_limit, planned_nbytes=self._planned_nbytes(address),
            )
            for address, mine in rows.items()
        )  # fmt: skip

    def _planned_nbytes(self, address: str) -> int:
        """The expected peak of a worker: of the resource plan, which knows all stages, where there is one."""
        plan = self._context.resource_plan
        return self._storage[address].planned_nbytes if plan is None else round(plan.layouts[0].peak.middle)

    def release(self) -> None:
        """Has the workers drop all matrices, and blocks that a failed build has left."""
        self._blocks.clear()
        self._matrices.clear()
        self._built.clear()

    def _forget_lost(self) -> None:
        """Drops what a lost worker held: matrices, which Dask must not recompute, and blocks that cannot be used."""
        present = {worker.address for worker in self._context.placement.workers}
        for address in [address for address in self._matrices if address not in present]:
            self._drop_matrix(address)
        self._blocks = {at: block for at, block in self._blocks.items() if is_usable(block)}

    def _drop_matrix(self, address: str) -> None:
        self._matrices.pop(address).cancel(force=True)
        del self._built[address]

    def _finish_builds(self) -> None:
        """Waits for matrices that are being built: a build cannot be stopped, and a second one in parallel may not fit.

        This includes those of a worker that is back at its old address: Dask rebuilds them by itself.
        """
        context = self._context
        building = {address: future for address, future in self._matrices.items() if future.status != "finished"}
        if building:
            with context.clock.stage("matrix"):
                done = [
                    context.client.submit(_await_matrix, future, workers=[at], pure=False)
                    for at, future in building.items()
                ]
                context.membership.wait(done, list(building))
        for address in building:
            if self._matrices[address].status != "finished":  # it needed rows from memory that have been dropped
                self._drop_matrix(address)

    def _assign(self) -> dict[str, tuple[int, ...]]:
        shares: dict[str, list[int]] = {worker.address: [] for worker in self._context.placement.workers}
        for place, unit in enumerate(assign_units(self._context.placement.workers, self._prepared.units)):
            shares[str(unit.worker)].append(place)
        return {address: tuple(places) for address, places in shares.items()}

    def _reassign(self) -> dict[str, tuple[int, ...]]:
        workers = [AssignableWorker(w.address, w.name, w.capability) for w in self._context.placement.workers]
        return reassign(
            self._shares, self._context.membership.names, [load(unit) for unit in self._prepared.units], workers
        )

    def _choose_storage(self) -> None:
        """Decides where each worker's matrix and codes are stored.  ClusterError if neither memory nor disk suffices."""
        context, units = self._context, self._prepared.units
        limits = {worker.address: worker.memory_limit for worker in context.placement.workers}
        nbytes = sum(unit.fragment.nbytes for unit in units)
        plan = self._prepared.plan
        by_nbytes = plan.shape.rows / max(1, nbytes)

        def rows(place: int) -> int:
            facts = self._facts.get(place)
            if facts is not None:
                return facts.train_rows + facts.validation_rows
            fragment = units[place].fragment
            return round(fragment.nbytes * by_nbytes) if fragment.rows is None else fragment.rows

        for address, share in self._shares.items():
            mine = sum(rows(place) for place in share)
            self._storage[address] = plan.storage(mine, limits[address])
        on_disk = sum(self._storage[address].matrix == "disk" for address in self._shares)
        if on_disk:
            context.emit_note(
                f"out of core: the quantised matrices of {on_disk} of {len(self._shares)} workers lie on disk"
            )

    def _make_blocks(self, shares: dict[str, tuple[int, ...]]) -> None:
        """Makes the blocks of these shares that do not exist yet."""
        wanted = {place: address for address, share in shares.items() for place in share if place not in self._blocks}
        if wanted:
            codes = self._prepared.plan.codes(self._storage[address] for address in shares)
            with self._context.clock.stage("blocks"):
                made = make_blocks(self._context, self._prepared, wanted, codes, self._owner)
            self._blocks |= made.blocks
            self._facts |= made.facts

    def _build(self, workers: Sequence[str]) -> None:
        """Builds the matrices of these workers in parallel, outside any communicator."""
        if not workers:
            return
        context, fitted, start = self._context, self._prepared.fitted, time.monotonic()
        threads = {worker.address: worker.threads for worker in context.placement.workers}
        with context.clock.stage("matrix"):
            for address in workers:
                if address in self._matrices:  # drop it before building the new one: both may not fit
                    self._drop_matrix(address)
            futures = {
                address: context.client.submit(
                    _build, self._trainer, [self._blocks[place] for place in self._shares[address]], fitted.cuts, fitted.recipe.names,
                    threads[address], context.placement.device,
                    (self._owner, context.job.cluster.scratch) if self._storage[address].matrix == "disk" else None,
                    workers=[address], allow_other_workers=False, pure=False,
                )
                for address in workers
            }  # fmt: skip
            sizes = [
                context.client.submit(_nbytes, future, workers=[address], pure=False)
                for address, future in futures.items()
            ]
            self._matrices |= futures  # kept even if other workers fail
            self._built |= {address: self._shares[address] for address in futures}
            nbytes = sum(context.membership.results(sizes, list(self._shares)))
        context.emit(MatrixDone(nbytes=nbytes, seconds=time.monotonic() - start))


@task
def _build(
    trainer: Trainer[Any],
    blocks: Sequence[Block],
    cuts: Cuts,
    names: Sequence[str],
    threads: int,
    device: Literal["cpu", "cuda"],
    on_disk: tuple[str, str | None] | None,
) -> Partition:
    """Builds a worker's matrix; `on_disk`: the run and its scratch folder, if the matrix is stored there."""
    with span("matrix"):
        scratch = None if on_disk is None else open_scratch(*on_disk)
        return trainer.build(blocks, cuts, names, threads=threads, device=device, scratch=scratch)


def _await_matrix(partition: Partition) -> None:
    """No-op task; completes when its input matrix is built."""


def _nbytes(partition: Partition) -> int:
    return partition.nbytes
