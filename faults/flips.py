"""Flips one byte of a model folder at a time: each load must be refused before XGBoost sees any of it."""

import random
from dataclasses import dataclass
from pathlib import Path

from faults.acts import flip
from pipeline.errors import ModelError
from pipeline.model.artifact import Model


@dataclass(frozen=True)
class Flipped:
    """The result of the flips."""

    files: int
    flips: int
    wrong: tuple[str, ...]  # what was loaded all the same, or not refused in one line


def flip_all(folder: Path, positions: int, rng: random.Random) -> Flipped:
    """Flips bits of one byte at `positions` positions of every file, loads the model each time, and restores the byte.

    In this process: a model that is refused before it is parsed cannot end it.
    """
    wrong: list[str] = []
    flips = 0
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        for place in _places(path.stat().st_size, positions, rng):
            mask = 1 << rng.randrange(8)
            flip(path, place, mask)
            if verdict := _loads(folder):
                wrong.append(f"{path.relative_to(folder)}, byte {place}, mask {mask}: {verdict}")
            flip(path, place, mask)
            flips += 1
    return Flipped(len(paths), flips, tuple(wrong))


def _places(size: int, positions: int, rng: random.Random) -> list[int]:
    """Returns that many different positions in a file of this size, or all there are; its ends included."""
    ends, inside = sorted({0, size - 1}) if size else [], range(1, size - 1)
    return ends + rng.sample(inside, min(len(inside), positions - len(ends)))


def _loads(folder: Path) -> str:
    """Returns what is wrong with the refusal; empty if it was one line that names the folder."""
    try:
        Model.load(folder, threads=1)
    except ModelError as error:
        named = str(folder) in str(error) and "\n" not in str(error)
        return "" if named else f"refused with {error}"
    except Exception as error:
        return f"{type(error).__name__} instead of a ModelError: {error}"
    return "loaded"
