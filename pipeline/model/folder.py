"""Which folders are a model's, and where one can be written."""

import os
from pathlib import Path

from pipeline.storage.atomic import claim

MANIFEST, BOOSTER = "manifest.json", "model.ubj"  # what every model folder has


def is_model_folder(folder: Path) -> bool:
    """Whether a folder looks like a model's: the only kind that --overwrite replaces."""
    return (folder / MANIFEST).is_file() and (folder / BOOSTER).is_file()


def claim_folder(folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """The path a model can be saved to; OutputError, before anything is trained, where it cannot."""
    return claim(folder, overwrite=overwrite, ours=is_model_folder)
