"""Writes and reads blocks and cuts as files, for a separate process that trains on the same rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.data.rows import TRAIN
from pipeline.preprocess.bins import Cuts
from pipeline.preprocess.block import Block
from pipeline.runtime.task_errors import task

CUTS = "cuts.npz"


def write_cuts(folder: Path, cuts: Cuts, names: Sequence[str]) -> None:
    """Cut points and names as arrays."""
    np.savez(
        folder / CUTS,
        points=np.concatenate([np.empty(0, np.float32), *cuts.points]),
        counts=np.array([len(points) for points in cuts.points]),
        levels=np.array([-1 if levels is None else levels for levels in cuts.levels]),
        names=np.array(names),
    )


def read_cuts(folder: Path) -> tuple[Cuts, tuple[str, ...]]:
    """What `write_cuts` wrote."""
    with np.load(folder / CUTS) as file:
        points = np.split(file["points"], np.cumsum(file["counts"])[:-1])
        levels = tuple(None if count < 0 else int(count) for count in file["levels"])
        return Cuts(points=tuple(points), levels=levels), tuple(str(name) for name in file["names"])


@task
def write_block(block: Block, folder: str) -> None:
    """Writes a block's training rows to a file, with the arrays that it has."""
    rows = block.rows_for(TRAIN)
    arrays = {name: getattr(block, name) for name in ("codes", "label", "weight", "group", "row_ids")}
    np.savez(
        Path(folder) / f"block-{block.fragment:08d}.npz",
        **{name: array[rows] for name, array in arrays.items() if array is not None},
    )


def read_blocks(folder: Path) -> list[Block]:
    """Reads the files of `write_block`, in the order of the fragments; they are removed as they are read."""
    blocks = []
    for path in sorted(folder.glob("block-*.npz")):
        with np.load(path) as file:
            arrays = {name: file[name] if name in file.files else None for name in ("weight", "group")}
            blocks.append(
                Block(
                    fragment=int(path.stem.removeprefix("block-")),
                    codes=file["codes"], label=file["label"], row_ids=file["row_ids"], use=None, **arrays,
                )
            )  # fmt: skip
        path.unlink()
    return blocks
