"""How much memory a training run takes, by stage.  Arithmetic only.

All processes together, on the CPU:

    blocks   codes of all rows + raw rows kept for the second pass + the fragments being decoded
    matrix   codes + quantised matrix + one decoded fragment a worker
    rounds   quantised matrix + row state + histograms

The constants were measured on XGBoost 3.4.1 with 28 features (see each); they are rounded up.
"""

from dataclasses import dataclass

CLIENT_NBYTES = 190 * 2**20  # client with scheduler, nannies and dashboard
WORKER_NBYTES = 230 * 2**20  # a worker's interpreter, Dask, Arrow and XGBoost
MATRIX_NBYTES_PER_VALUE = 2.9  # quantised matrix where no value is missing: codes by row and by column
MATRIX_NBYTES_PER_VALUE_MISSING = 5.8  # with a single missing value anywhere
ROW_NBYTES = 48  # label, weight, row id, margin, gradient pair, position in the tree, all per row
BIN_NBYTES = 16  # a histogram bin: two doubles
MAX_CACHED_NODES = 65_536  # XGBoost's histogram cache


@dataclass(frozen=True)
class Shape:
    """What a run's memory depends on."""

    rows: int
    features: int
    bins: int  # per feature
    depth: int  # of a tree
    classes: int  # trees per round
    workers: int
    threads: int  # per worker
    fragment_rows: int  # of the largest fragment
    missing: bool  # whether any value may be missing


@dataclass(frozen=True)
class Estimate:
    """Bytes of all processes together."""

    base_nbytes: int
    blocks_nbytes: int
    matrix_nbytes: int
    rounds_nbytes: int

    @property
    def peak_nbytes(self) -> int:
        return self.base_nbytes + max(self.blocks_nbytes, self.matrix_nbytes, self.rounds_nbytes)


def processes_nbytes(workers: int) -> int:
    """What the client and its workers take before they hold a row."""
    return CLIENT_NBYTES + workers * WORKER_NBYTES


def estimate(shape: Shape) -> Estimate:
    """The memory a run takes, by stage; `blocks_nbytes` holds no raw rows kept between the passes."""
    values = shape.rows * shape.features
    per_value = MATRIX_NBYTES_PER_VALUE_MISSING if shape.missing else MATRIX_NBYTES_PER_VALUE
    matrix = int(values * per_value)
    fragment = shape.fragment_rows * shape.features * 4
    row_state = shape.rows * (ROW_NBYTES + 12 * (shape.classes - 1))
    nodes = min(2**shape.depth - 1, MAX_CACHED_NODES) + shape.threads - 1
    histograms = BIN_NBYTES * shape.features * shape.bins * nodes * shape.workers
    return Estimate(
        base_nbytes=processes_nbytes(shape.workers),
        blocks_nbytes=values + 2 * fragment * shape.workers * shape.threads,
        matrix_nbytes=values + matrix + 2 * fragment * shape.workers,
        rounds_nbytes=matrix + row_state + histograms,
    )


def spare_nbytes(shape: Shape) -> int:
    """Bytes of raw rows that can be kept between the passes without raising the run's peak."""
    need = estimate(shape)
    return max(0, max(need.matrix_nbytes, need.rounds_nbytes) - need.blocks_nbytes)
