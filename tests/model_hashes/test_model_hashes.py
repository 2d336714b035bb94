"""The bytes of model.ubj and recipe.json are those of hashes.json: on one worker with its rows as in the source, and on
two with theirs in the order that training is faster in.

hashes.json is changed only by a commit that says why the bytes are other ones: a new version of a library, or a change
of the training that is meant.  `python -m tests.model_hashes --write` writes it.

The bytes belong to the locked versions and to the system that the file names; the tests are skipped on others.
The CPU's instruction set may change them: NumPy and the C library choose their exp and log by it, and these differ in
last bits.  With AVX and FMA disabled for both (NPY_DISABLE_CPU_FEATURES, GLIBC_TUNABLES) all bytes were the same; a
failure names the instruction sets where they are not those of the file.  The case "missing" leaves out log1p, which
NumPy computes by its own AVX-512 code.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.model_hashes.cases import (
    CASES,
    INTERRUPTED_ROUNDS,
    LIBRARIES,
    cpu_features,
    system,
    train,
    versions,
    write_source,
)

HERE = Path(__file__).parent
LOCK = HERE.parent.parent / "requirements.lock"
RECORDED = json.loads((HERE / "hashes.json").read_text(encoding="utf-8"))


def why_not_comparable() -> str | None:
    """What differs from the system and the versions that the hashes are of."""
    if system() != RECORDED["system"]:
        return f"the system is {system()}, the hashes are of {RECORDED['system']}"
    different = [
        f"{name} {installed} (the hashes are of {RECORDED['versions'][name]})"
        for name, installed in versions().items()
        if installed != RECORDED["versions"][name]
    ]
    return f"installed: {', '.join(different)}" if different else None


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("model_hashes") / "data")


@pytest.mark.parametrize("name", CASES)
def test_the_bytes_are_as_recorded(
    name: str, source: Path, make_cluster: Callable[[int, int], Any], tmp_path: Path
) -> None:
    if reason := why_not_comparable():
        pytest.skip(reason)
    for workers, row_order in ((1, "source"), (2, "key")):
        case = CASES[name].with_row_order(row_order)
        outcome = train(make_cluster(workers, 1), case, source, tmp_path / f"model-{workers}")
        assert len(outcome.worker_rows) == workers
        assert all(outcome.worker_rows)
        assert outcome.rounds[0] == (INTERRUPTED_ROUNDS + 1 if CASES[name].resumed else 1)
        assert outcome.hashes == RECORDED["cases"][name], (
            f"on {workers} workers, row order {row_order}; {cpu_difference()}"
        )


def cpu_difference() -> str:
    here, there = cpu_features(), RECORDED["cpu_features"]
    return "the CPU's instruction sets are the same" if here == there else f"instruction sets: {here}, not {there}"


def test_every_case_is_recorded() -> None:
    assert RECORDED["cases"].keys() == CASES.keys()
    assert RECORDED["cases"]["resumed"] == RECORDED["cases"]["row sampling"]
    assert RECORDED["cases"]["matrix on disk"] == RECORDED["cases"]["binary"]


def test_the_hashes_are_of_the_locked_versions() -> None:
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE))
    assert RECORDED["versions"] == {name: locked[name] for name in LIBRARIES}
