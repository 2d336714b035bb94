"""Writes a benchmark's record: what ran where, with which versions, and every sample; JSON next to its picture."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.scaling.environment import circumstances

__all__ = ["RESULTS", "circumstances", "write"]

RESULTS = Path(__file__).resolve().parent / "results"


def write(name: str, record: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Writes NAME.json; returns its path.  A benchmark that is stopped meanwhile leaves the record that was there."""
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / f"{name}.json", folder / f".{name}.json.partial"
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path
