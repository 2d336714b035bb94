"""Recognises model folders, and claims the path where one can be written."""

import os
from pathlib import Path

from pipeline.storage.atomic import claim

MANIFEST, BOOSTER, RECIPE, METRICS = (
    "manifest.json",
    "model.ubj",
    "recipe.json",
    "metrics.json",
)  # in every model folder
CUTS = "cuts.json"  # since manifest version 3


def is_model_folder(folder: Path) -> bool:
    """Whether a folder looks like a model folder: only such a folder is replaced with --overwrite."""
    return (folder / MANIFEST).is_file() and (folder / BOOSTER).is_file()


def claim_folder(folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """The path a model can be saved to; OutputError, before training, where it cannot."""
    return claim(folder, overwrite=overwrite, ours=is_model_folder)
