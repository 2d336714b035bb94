"""Workers that all reach the scheduler and not each other."""

import asyncio
import socket
from typing import Any

import pytest

from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.runtime.reachability import failing, left_out, reaches, unreachable_pairs


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], {}),
        ([("a", "b")], {"b": "a"}),  # rank 0 stays
        ([("a", "b"), ("a", "c"), ("a", "d")], {"a": "b"}),  # one host behind a firewall
        ([("a", "b"), ("c", "d")], {"d": "c", "b": "a"}),
        ([("a", "b"), ("a", "c"), ("b", "c")], {"c": "a", "b": "a"}),
    ],
)
def test_few_are_left_out(pairs: list[tuple[str, str]], expected: dict[str, str]) -> None:
    found = left_out(pairs, ["a", "b", "c", "d"])
    assert found == expected
    assert all(a in found or b in found for a, b in pairs)


def test_what_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert asyncio.run(reaches("127.0.0.1", port))
        there = {"here": ("127.0.0.1", port)}
    assert asyncio.run(failing(there)) == ["here"]


def test_workers_of_a_real_cluster(client: Any) -> None:
    workers = sorted(scheduler_info(client)["workers"])
    assert unreachable_pairs(client, workers) == []
    a, b = workers
    answers: list[Any] = [{a: 1, b: 2}, {b: [a]}]  # a does not say what it reached
    assert unreachable_pairs(client, workers, lambda *_: answers.pop(0)) == [(a, b)]
