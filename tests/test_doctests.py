"""Examples in docstrings hold."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("pipeline", "benchmarks", "faults")
    for path in (ROOT / folder).rglob("*.py")
    if "\n>>> " in (text := path.read_text(encoding="utf-8")) or "    >>> " in text
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0


def test_the_definitions_have_examples() -> None:
    assert "pipeline.efficiency.definitions" in MODULES
