"""The benchmark of whole runs with rows in two orders, at toy size."""

import pytest
from click.testing import CliRunner

from benchmarks.row_order_runs import command, summary


@pytest.mark.slow
def test_all_layouts_run_and_give_one_model() -> None:
    words = ["--rows", "4000", "--features", "4", "--rounds", "3", "--depth", "3", "--repeat", "1", "--name", ""]
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert [line.split(",")[0] for line in result.output.splitlines()] == ["1x2", "2x1", "1x2"]


def test_ratios_are_of_the_key_to_the_source() -> None:
    def sample(cpu: float, sha256: str) -> dict[str, object]:
        return {
            "wall_seconds": cpu,
            "cpu_seconds": cpu,
            "rounds_seconds": cpu / 2,
            "peak_pss_nbytes": 1,
            "sha256": sha256,
        }

    found = summary(
        {"source": [sample(4, "a"), sample(8, "a"), sample(4, "a")], "key": [sample(3, "a"), sample(3, "a")]}
    )
    assert (found["cpu_ratio"], found["rounds_ratio"], found["same_model"]) == (0.75, 0.75, True)
    assert not summary({"source": [sample(4, "a")], "key": [sample(3, "b")]})["same_model"]
