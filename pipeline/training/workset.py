"""Which worker has which fragments, and the quantised matrices made of them; repaired when workers come and go."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from distributed import Future

from pipeline.cluster.devices import array_namespace
from pipeline.errors import DataError
from pipeline.events.types import MatrixDone, Place
from pipeline.planning.assignment import Candidate, changed, repair, with_training_rows
from pipeline.preprocess.bins import Cuts
from pipeline.preprocess.block import Block
from pipeline.preprocess.fit import BlockFacts
from pipeline.preprocess.passes import Prepared, Storage, asked_matrix, assign_units, load, make_blocks
from pipeline.runtime.context import Walk
from pipeline.runtime.shared_value import is_usable
from pipeline.runtime.task_errors import task
from pipeline.runtime.timing import span
from pipeline.storage.scratch import open_scratch
from pipeline.training.xgboost.matrix import Partition, build_partition


@dataclass(frozen=True)
class Partitions:
    """The quantised matrices, each on its worker."""

    workers: tuple[str, ...]  # addresses, rank 0 first
    futures: tuple[Future, ...]  # of Partition


class Team:
    """What the workers of one run hold: their fragments, and matrices of them.

    Blocks live only until their matrices stand.  A share that changes has its matrix built again, of blocks that are
    made again: a quantised matrix cannot be extended.
    """

    def __init__(self, walk: Walk, prepared: Prepared) -> None:
        self._walk, self._prepared = walk, prepared
        self._shares: dict[str, tuple[int, ...]] = {}  # address -> places of the units
        self._built: dict[str, tuple[int, ...]] = {}  # likewise: what the matrices were built of
        self._matrices: dict[str, Future] = {}
        self._blocks: dict[int, Future] = {}  # by place
        self._facts: dict[int, BlockFacts] = {}
        self._storage: dict[str, Storage] = {}  # by address

    def ready(self, *, anew: bool = False) -> Partitions:
        """Matrices on the workers of the walk's placement; builds those that are missing.

        `anew`: all fragments are dealt out again, because there are more workers.  WorkerLostError where a worker leaves
        meanwhile: what stands is used when this is called again.
        """
        walk = self._walk
        walk.members.count_on({worker.address: worker.process for worker in walk.placement.workers})
        self._forget_lost()
        self._finish_builds()
        self._shares = self._deal() if anew or not self._shares else self._repaired()
        self._store()
        if any(place not in self._facts for place in range(len(self._prepared.units))):
            self._make_blocks(self._shares)
        rows = {place: facts.train_rows for place, facts in self._facts.items()}
        self._shares = with_training_rows(self._shares, rows)
        if not self._shares:
            raise DataError(
                "no row is left to train on: see data.where, data.validation and the target's missing values"
            )
        self._store()
        missing = changed(self._shares, self._built)
        self._make_blocks({address: self._shares[address] for address in missing})
        self._build(missing)
        self._blocks.clear()  # the workers drop them: from here on only the quantised matrices live
        self._prepared.payloads.release()  # likewise rows that came from memory
        workers = tuple(self._shares)
        return Partitions(workers, tuple(self._matrices[address] for address in workers))

    def places(self) -> tuple[Place, ...]:
        """Where the rows lie, by rank; of a team that is ready."""
        walk, placed = self._walk, {worker.address: worker for worker in self._walk.placement.workers}
        rows = {
            address: sum(self._facts[place].train_rows + self._facts[place].validation_rows for place in share)
            for address, share in self._shares.items()
        }
        all_rows, rates = sum(rows.values()), sum(placed[address].capability for address in rows)
        return tuple(
            Place(
                worker=walk.members.names[address], rows=mine, share=mine / all_rows,
                capability=placed[address].capability / rates, threads=placed[address].threads,
                memory_limit_nbytes=placed[address].memory_limit, planned_nbytes=self._storage[address].planned_nbytes,
            )
            for address, mine in rows.items()
        )  # fmt: skip

    def release(self) -> None:
        """Has the workers drop all matrices."""
        self._matrices.clear()
        self._built.clear()

    def _forget_lost(self) -> None:
        """What went with its worker: matrices, which Dask must not make again, and blocks, which it may not be able to."""
        present = {worker.address for worker in self._walk.placement.workers}
        for address in [address for address in self._matrices if address not in present]:
            self._drop_matrix(address)
        self._blocks = {at: block for at, block in self._blocks.items() if is_usable(block)}

    def _drop_matrix(self, address: str) -> None:
        self._matrices.pop(address).cancel(force=True)
        del self._built[address]

    def _finish_builds(self) -> None:
        """Waits for matrices that are still being built: nothing stops that, and a second beside it may not fit.

        Those of a worker that is back at its old address are among them: Dask makes them again by itself.
        """
        walk = self._walk
        building = {address: future for address, future in self._matrices.items() if future.status != "finished"}
        if building:
            with walk.clock.stage("matrix"):
                done = [
                    walk.client.submit(_stands, future, workers=[at], pure=False) for at, future in building.items()
                ]
                walk.members.wait(done, list(building))
        for address in building:
            if self._matrices[address].status != "finished":  # with rows that came from memory and are gone
                self._drop_matrix(address)

    def _deal(self) -> dict[str, tuple[int, ...]]:
        shares: dict[str, list[int]] = {worker.address: [] for worker in self._walk.placement.workers}
        for place, unit in enumerate(assign_units(self._walk.placement.workers, self._prepared.units)):
            shares[str(unit.worker)].append(place)
        return {address: tuple(places) for address, places in shares.items()}

    def _repaired(self) -> dict[str, tuple[int, ...]]:
        workers = [Candidate(w.address, w.name, w.capability) for w in self._walk.placement.workers]
        return repair(self._shares, self._walk.members.names, [load(unit) for unit in self._prepared.units], workers)

    def _store(self) -> None:
        """Decides where each worker's matrix and codes lie; ClusterError where neither memory nor disk will do."""
        walk, units = self._walk, self._prepared.units
        limits = {worker.address: worker.memory_limit for worker in walk.placement.workers}
        nbytes = sum(unit.fragment.nbytes for unit in units)
        by_nbytes = self._prepared.shape.rows / max(1, nbytes)

        def rows(place: int) -> int:
            facts = self._facts.get(place)
            if facts is not None:
                return facts.train_rows + facts.validation_rows
            fragment = units[place].fragment
            return round(fragment.nbytes * by_nbytes) if fragment.rows is None else fragment.rows

        for address, share in self._shares.items():
            mine = sum(rows(place) for place in share)
            self._storage[address] = self._prepared.storage(asked_matrix(walk), mine, limits[address])
        on_disk = sum(self._storage[address].matrix == "disk" for address in self._shares)
        if on_disk:
            walk.note(f"out of core: the quantised matrices of {on_disk} of {len(self._shares)} workers lie on disk")

    def _make_blocks(self, shares: dict[str, tuple[int, ...]]) -> None:
        """The blocks of these shares that are not there already."""
        wanted = {place: address for address, share in shares.items() for place in share if place not in self._blocks}
        if wanted:
            codes: Literal["memory", "disk"] = "memory"
            if any(self._storage[address].codes == "disk" for address in shares):
                codes = "disk"
            with self._walk.clock.stage("blocks"):
                made = make_blocks(self._walk, self._prepared, wanted, codes)
            self._blocks |= made.blocks
            self._facts |= made.facts

    def _build(self, workers: Sequence[str]) -> None:
        """The matrices of these workers, side by side, outside any communicator."""
        if not workers:
            return
        walk, fitted, start = self._walk, self._prepared.fitted, time.monotonic()
        threads = {worker.address: worker.threads for worker in walk.placement.workers}
        with walk.clock.stage("matrix"):
            for address in workers:
                if address in self._matrices:  # before the new one is built: both may not fit
                    self._drop_matrix(address)
            futures = {
                address: walk.client.submit(
                    _build, [self._blocks[place] for place in self._shares[address]], fitted.cuts, fitted.recipe.names,
                    threads[address], walk.placement.device,
                    (walk.run, walk.job.cluster.scratch) if self._storage[address].matrix == "disk" else None,
                    workers=[address], allow_other_workers=False, pure=False,
                )
                for address in workers
            }  # fmt: skip
            sizes = [
                walk.client.submit(_nbytes, future, workers=[address], pure=False)
                for address, future in futures.items()
            ]
            self._matrices |= futures  # of use, whatever becomes of the others
            self._built |= {address: self._shares[address] for address in futures}
            nbytes = sum(walk.members.results(sizes, list(self._shares)))
        walk.listen(MatrixDone(nbytes=nbytes, seconds=time.monotonic() - start))


@task
def _build(
    blocks: Sequence[Block],
    cuts: Cuts,
    names: Sequence[str],
    threads: int,
    device: Literal["cpu", "cuda"],
    on_disk: tuple[str, str | None] | None,
) -> Partition:
    """`on_disk`: the run and its scratch folder, where the matrix is to lie there."""
    with span("matrix"):
        scratch = None if on_disk is None else open_scratch(*on_disk)
        return build_partition(blocks, cuts, names, threads=threads, xp=array_namespace(device), scratch=scratch)


def _stands(partition: Partition) -> None:
    """Done when the matrix stands."""


def _nbytes(partition: Partition) -> int:
    return partition.nbytes
