"""One bench and one place of each kind for all trials."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import pytest

from faults.bench import Bench
from faults.places import Kind, Local, Processes, place

Places = Callable[[Kind], Local | Processes]


@pytest.fixture(scope="package")
def bench(tmp_path_factory: pytest.TempPathFactory, no_process_left: None) -> Iterator[Bench]:
    with contextlib.closing(Bench(tmp_path_factory.mktemp("bench"))) as made:
        yield made


@pytest.fixture(scope="package")
def places(tmp_path_factory: pytest.TempPathFactory, no_process_left: None) -> Iterator[Places]:
    """`places(kind)`: started when it is first asked for."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start(kind: Kind) -> Local | Processes:
            return stack.enter_context(place(kind, tmp_path_factory.mktemp(kind)))

        yield start
