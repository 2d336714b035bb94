"""Plans a run before it starts: what is known of it, what it may use, what it will need, and where its data will lie.

A `Survey` (what metadata and the job say) and `Resources` (the workers) make a `StoragePlan`.  It is frozen: when more is known
(the classes of the target, the rows that pass a filter, whether values are missing), another is made of it.  Every
decision about storage and memory is made here and read from the plan: whether a quantised matrix is in memory or on
disk, where the bin codes wait for it, how many raw rows are kept between the passes, what a worker is expected to take.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pipeline.config.parameters import PARAMETERS
from pipeline.errors import ClusterError, JobError
from pipeline.formatting import aligned, many, mib
from pipeline.planning.job_size import whole
from pipeline.planning.memory import MIB, MemoryShape, estimate, spare_nbytes, worker_need

FITTING_SHARE = 0.9  # of a worker's limit that a run may be expected to take; its nanny kills it at 0.95
LIMIT_SHARE = 0.95  # of the limit: above it the nanny is sure to kill the worker
SPILL_SHARE = 0.6  # of the limit that may be taken before a matrix is built: above it a worker writes codes to disk
BYTES_PER_VALUE = 8  # of decoded text files, by which their rows are estimated
# Rows are ordered from this many on, with so many columns at most.  Chosen by `python -m benchmarks.row_order`: fewer rows
# gain as large a share (5 to 7 %) of little time, 128 columns gained nothing; numbers of columns between were not tried.
ORDERED_ROWS, ORDERED_FEATURES = 100_000, 64
TEXT_EXPANSION = 4  # bytes of a parsed table for each byte of text, at most: a digit and a comma become eight
LONG_FRAGMENT_NBYTES = 64 * MIB  # the size of a fragment by default: a larger one keeps its thread for seconds
NAMED = 6  # columns in a table
DEPTH: int = PARAMETERS["max_depth"].default  # of trees

Device = Literal["cpu", "cuda"]
Location = Literal["memory", "disk"]
StorageChoice = Literal["auto", "memory", "disk"]  # as the job has it
OrderOfRows = Literal["key", "source"]


@dataclass(frozen=True)
class FragmentSize:
    """A fragment as metadata show it."""

    nbytes: int  # decoded, estimated
    rows: int | None  # None where the format has no counts


@dataclass(frozen=True)
class Survey:
    """What is known of a run's data, and what the job says about its trees and their storage."""

    formats: tuple[str, ...]  # of the sources
    files: int
    fragments: tuple[FragmentSize, ...]  # of all sources
    columns: tuple[tuple[str, str], ...]  # those that become features, with their types
    target: tuple[str, str]  # with its type
    objective: str  # "auto" until the target's values are known
    matrix: StorageChoice  # training.matrix
    row_order: Literal["auto"] | OrderOfRows  # training.row_order
    ranking: bool  # whether rows belong to queries
    bins: int  # training.max_bin
    params: Mapping[str, Any]  # XGBoost's: the job's, and once the rows are read, all that the rounds get
    trees: int = 1  # of a round; 1 until the target's classes are known
    rows: int | None = None  # those that pass all filters, once they are counted
    missing: bool = False  # whether a value is missing, once that is known
    compressed: tuple[int, ...] = ()  # bytes of text in each compressed file, which is one fragment, however large


@dataclass(frozen=True)
class WorkerResources:
    """What one worker process may use."""

    threads: int
    memory_limit_nbytes: int  # 0: none


@dataclass(frozen=True)
class Resources:
    """The workers of a run."""

    device: Device
    workers: tuple[WorkerResources, ...]
    more_memory: str  # advice: how to give the workers more
    note: str = ""  # what was assumed, where the workers are not known yet

    @property
    def limit_nbytes(self) -> int:
        """The smallest of the workers' memory limits; 0: none."""
        return min((one.memory_limit_nbytes for one in self.workers if one.memory_limit_nbytes), default=0)


@dataclass(frozen=True)
class Storage:
    """Where a worker keeps its matrix and codes."""

    matrix: Location
    codes: Location  # of the blocks, until the matrix is built
    planned_nbytes: int  # expected peak of the worker


@dataclass(frozen=True)
class StoragePlan:
    """What a run needs, and where its data will lie; `StoragePlan.of` makes it.  `print(plan)` shows it."""

    survey: Survey
    resources: Resources
    shape: MemoryShape  # what memory depends on
    worker_rows: int  # an even share
    worker: Storage  # of a worker with an even share of the rows
    keep_nbytes: int  # raw rows that each worker keeps between the passes; the others are decoded again
    row_order: OrderOfRows  # of the rows within a block

    @classmethod
    def of(cls, survey: Survey, resources: Resources) -> Self:
        """Plans a run of these data on these workers; the result may be one that `validate` refuses."""
        shape = _shape(survey, resources)
        rows = -(-shape.rows // shape.workers)
        worker = _choose_storage(survey.matrix, resources.device, shape, rows, resources.limit_nbytes)
        keep = _kept_rows_nbytes(survey, shape) if worker.matrix == "memory" else 0
        return cls(survey, resources, shape, rows, worker, keep, _choose_row_order(survey, resources.device, shape))

    def revised(self, **known: Any) -> Self:
        """Plans the same run with other fields of the survey; the order of rows stays as it was decided."""
        made = self.of(dataclasses.replace(self.survey, **known), self.resources)
        return dataclasses.replace(made, row_order=self.row_order)

    def on_disk(self) -> Self:
        """The same with matrix and codes on disk, where the job leaves that open; raw rows are not kept."""
        need = worker_need(self.shape, self.worker_rows)
        return dataclasses.replace(self, worker=Storage("disk", "disk", need.disk_nbytes), keep_nbytes=0)

    @staticmethod
    def codes(workers: Iterable[Storage]) -> Location:
        """Where all of these workers keep their codes: on disk as soon as one has to, since blocks may move."""
        return "disk" if any(worker.codes == "disk" for worker in workers) else "memory"

    def validate(self) -> None:
        """ClusterError, with both numbers and the setting, where neither memory nor disk suffices; JobError where the
        order of rows cannot be the one asked for.
        """
        if self.survey.row_order == "key" and self.row_order == "source":
            raise JobError(
                'training.row_order = "key": the rows of a query stay together, as in the source: leave it at "auto"'
            )
        self.storage(self.worker_rows, self.resources.limit_nbytes)

    def storage(self, rows: int, memory_limit_nbytes: int) -> Storage:
        """Where a worker with `rows` rows and this limit (0: none) keeps its matrix and codes; ClusterError."""
        device = self.resources.device
        chosen = _choose_storage(self.survey.matrix, device, self.shape, rows, memory_limit_nbytes)
        if (why := _misfit(chosen, self.shape, rows, memory_limit_nbytes)) is not None:
            raise ClusterError(why)
        return chosen

    @property
    def nbytes(self) -> int:
        """Expected peak of all processes together, if no value is missing that is not known to be."""
        return estimate(self.shape).peak_nbytes

    @property
    def nbytes_missing(self) -> int:
        """The same if any value is missing."""
        return estimate(dataclasses.replace(self.shape, missing=True)).peak_nbytes

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know before the run."""
        limit, planned, found = self.resources.limit_nbytes, self.worker.planned_nbytes, []
        if limit and planned > FITTING_SHARE * limit:
            found.append(
                f"a worker is expected to take {planned / MIB:,.0f} MiB, and is ended near its limit of "
                f"{limit / MIB:,.0f} MiB: {self.resources.more_memory}"
            )
        return (*found, *_unread_in_parallel(self.survey, self.resources))

    def table(self) -> str:
        """The plan as text, one line for each topic."""
        survey, resources, limit = self.survey, self.resources, self.resources.limit_nbytes
        refused = _misfit(self.worker, self.shape, self.worker_rows, limit)
        remarks = ("note", resources.note), *(("note", note) for note in self.notes), ("refused", refused)
        lines = [
            ("data", _data(survey, self.shape.rows)),
            ("features from", _names(survey)),
            ("target", f"{' '.join(survey.target)}; objective {survey.objective}"),
            ("workers", _workers(resources, len(survey.fragments))),
            ("matrix", f"in {self.worker.matrix}" if self.worker.matrix == "memory" else "on disk, in pages"),
            ("bin codes", f"{_at(self.worker.codes)} until the matrix is built"),
            ("raw rows", f"{mib(self.keep_nbytes)} a worker kept between the passes, the rest is decoded again"),
            ("order of rows", "by key, within each block" if self.row_order == "key" else "as in the source"),
            ("memory of a worker", _of_limit(self.worker.planned_nbytes, limit)),
            ("memory of all", f"{mib(self.nbytes)}, {mib(self.nbytes_missing)} if values are missing"),
            *((kind, text) for kind, text in remarks if text),
        ]
        return "\n".join(aligned(lines))

    def __str__(self) -> str:
        return self.table()


def _shape(survey: Survey, resources: Resources) -> MemoryShape:
    """Rows of text files are estimated from their bytes; a depth that is missing or invalid is XGBoost's default."""
    row_nbytes = BYTES_PER_VALUE * max(1, len(survey.columns))
    fragments = [fragment.rows or fragment.nbytes // row_nbytes for fragment in survey.fragments]
    return MemoryShape(
        rows=sum(fragments) if survey.rows is None else survey.rows,
        features=len(survey.columns),
        bins=survey.bins,
        depth=whole(survey.params.get("max_depth"), DEPTH) or DEPTH,
        classes=survey.trees,
        workers=len(resources.workers),
        threads=max(worker.threads for worker in resources.workers),
        fragment_rows=max(fragments, default=0),
        missing=survey.missing,
    )


def _choose_storage(asked: StorageChoice, device: Device, shape: MemoryShape, rows: int, limit_nbytes: int) -> Storage:
    """Decides for a worker with `rows` rows, training and validation; limit 0: none.

    The matrix is in memory where it fits without the codes, or as asked.  The codes are in memory where both fit.  On
    GPUs "auto" means memory: Dask's limit is not about GPU memory.
    """
    if asked == "auto" and device == "cuda":
        asked = "memory"
    need, fits = worker_need(shape, rows), FITTING_SHARE * limit_nbytes
    in_memory = asked == "memory" or (asked == "auto" and (not limit_nbytes or need.memory_nbytes <= fits))
    both = in_memory and (not limit_nbytes or need.all_nbytes <= fits)
    matrix: Location = "memory" if in_memory else "disk"
    codes: Location = "memory" if both else "disk"
    return Storage(matrix, codes, need.nbytes(matrix, codes))


def _kept_rows_nbytes(survey: Survey, shape: MemoryShape) -> int:
    """The raw rows that each worker may keep between the passes: as many as do not raise the run's peak.

    Where no worker has several fragments, at least one of them: each pass would hold all of its rows in any case.
    """
    one_each = len(survey.fragments) <= shape.workers
    largest = max((fragment.nbytes for fragment in survey.fragments), default=0)
    return max(spare_nbytes(shape) // shape.workers, TEXT_EXPANSION * largest if one_each else 0)


def _choose_row_order(survey: Survey, device: Device, shape: MemoryShape) -> OrderOfRows:
    """Decides by all rows, never by a worker's share; queries of a ranking stay as they are, and rows on a GPU."""
    if survey.ranking:
        return "source"
    if survey.row_order != "auto":
        return survey.row_order
    pays = device == "cpu" and shape.rows >= ORDERED_ROWS and shape.features <= ORDERED_FEATURES
    return "key" if pays else "source"


def _misfit(chosen: Storage, shape: MemoryShape, rows: int, limit_nbytes: int) -> str | None:
    """Why a worker with `rows` rows is refused: not even the row state of a matrix on disk fits.  None if it fits."""
    need = worker_need(shape, rows)
    if chosen.matrix == "memory" or not limit_nbytes or need.disk_nbytes <= LIMIT_SHARE * limit_nbytes:
        return None
    return (
        f"a worker with {rows:,} rows needs {need.disk_nbytes / MIB:,.0f} MiB of memory even with training.matrix = "
        f'"disk" ({need.row_nbytes} bytes a row and {need.fixed_nbytes / MIB:,.0f} MiB more), its limit is '
        f"{limit_nbytes / MIB:,.0f} MiB: raise cluster.memory, add workers on other machines, or train on "
        "fewer rows or flatter trees"
    )


def _unread_in_parallel(survey: Survey, resources: Resources) -> list[str]:
    """A note where large compressed files leave threads without work while the data are read."""
    fragments, threads = len(survey.fragments), sum(worker.threads for worker in resources.workers)
    large = [nbytes for nbytes in survey.compressed if nbytes >= LONG_FRAGMENT_NBYTES]
    if not large or fragments >= threads:
        return []
    files = f"{many(len(large), 'compressed file')} of up to about {mib(max(large))} of text"
    advice = f"split the text into {threads} files or more, or decompress it"
    return [f"{files}: one thread reads each; {many(fragments, 'fragment')} for {many(threads, 'thread')}: {advice}"]


def _data(survey: Survey, rows: int) -> str:
    counted = survey.rows is not None or None not in [fragment.rows for fragment in survey.fragments]
    kinds, about = " and ".join(dict.fromkeys(survey.formats)), "" if counted else "about "
    return (
        f"{about}{rows:,} rows in {many(len(survey.fragments), 'fragment')} of {many(survey.files, 'file')} ({kinds})"
    )


def _names(survey: Survey) -> str:
    shown = ", ".join(f"{name} {kind}" for name, kind in survey.columns[:NAMED])
    more = len(survey.columns) - NAMED
    return f"{many(len(survey.columns), 'column')}: {shown}{f' and {more} more' if more > 0 else ''}"


def _workers(resources: Resources, fragments: int) -> str:
    threads = dict.fromkeys(str(worker.threads) for worker in resources.workers)
    limit, idle = resources.limit_nbytes, len(resources.workers) - fragments
    said = f"{len(resources.workers)} x {' or '.join(threads)} threads on the {'GPU' if resources.device == 'cuda' else 'CPU'}"
    said += f", {mib(limit)} each" if limit else ", no memory limit"
    return said + (f"; {idle} without rows: these lie in {many(fragments, 'fragment')}" if idle > 0 else "")


def _of_limit(nbytes: int, limit_nbytes: int) -> str:
    return f"{mib(nbytes)} at its peak" + (f", its limit is {mib(limit_nbytes)}" if limit_nbytes else "")


def _at(location: Location) -> str:
    return "in memory" if location == "memory" else "on disk"
