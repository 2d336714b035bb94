"""Trains the base case: the best single process on the same cores, with all threads, without Dask.

`SingleProcess` starts `python -m pipeline.scaling.baseline_process` and exchanges lines of JSON with it: the assignment, then
"train" for every repetition, so that its repetitions alternate with those of the workers.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from pipeline.cluster import openmp
from pipeline.errors import PipelineError
from pipeline.scaling.plan import WARMUP
from pipeline.scaling.synthetic import Synthetic

GRACE_SECONDS = 5.0  # to exit by itself


@dataclasses.dataclass(frozen=True)
class ProcessAssignment:
    """The process's workload, in JSON form."""

    threads: int
    cores: tuple[int, ...]  # empty: no pinning
    spec: dict[str, Any]  # of the RoundsSpec
    synthetic: dict[str, Any] | None  # of `Synthetic`, with the rows to generate; None: they are in `folder`
    folder: str  # with cuts and blocks


class SingleProcess:
    """The client's side of the process; a context manager."""

    def __init__(self, assignment: ProcessAssignment) -> None:
        self._assignment = assignment
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # closed on exit
        self._process: subprocess.Popen[str] | None = None
        self.rows = 0  # in its training set

    def __enter__(self) -> "SingleProcess":
        here = str(Path(__file__).resolve().parents[2])
        paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
            start_new_session=True,  # Ctrl-C goes to the client, which stops this process too
            env={
                **os.environ,
                **openmp.environment(self._assignment.threads),  # the same as for the workers it is compared with
                "PYTHONPATH": os.pathsep.join(paths),
            },
        )  # fmt: skip
        try:
            self.rows = self._ask(dataclasses.asdict(self._assignment))["rows"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        self._process = None
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # it has exited already
                    stream.close()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._said.close()

    def train(self) -> tuple[float, ...]:
        """Seconds of every round of one training."""
        return tuple(self._ask("train")["seconds"])

    def _ask(self, message: object) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # its last output explains more
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            code = self._process.wait()  # it closes stdout before it reports the cause
            self._said.seek(0)
            lines = self._said.read().strip().splitlines() or ["it printed nothing"]
            raise PipelineError(f"the single process ended with exit code {code}: {lines[-1]}")
        found: dict[str, Any] = json.loads(answer)
        return found


@contextlib.contextmanager
def _protocol_stream() -> Iterator[TextIO]:
    """The real stdout, for the protocol alone; all other output goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        os.dup2(2, 1)
        yield stream


def main() -> None:
    """The process's side of the protocol."""
    from pipeline.cluster import lean
    from pipeline.cluster.affinity import pin

    with _protocol_stream() as stream:

        def answer(**found: object) -> None:
            stream.write(json.dumps(found) + "\n")
            stream.flush()

        line = sys.stdin.readline()
        if not line:
            return
        assignment = ProcessAssignment(**json.loads(line))
        if assignment.cores:
            pin(tuple(assignment.cores))
        lean.install()
        train, rows = _prepared(assignment)
        answer(rows=rows)
        for _ in sys.stdin:
            answer(seconds=train())


def _prepared(assignment: ProcessAssignment) -> tuple[Any, int]:
    """A function that trains once and returns the seconds of every round; and the training rows."""
    from pipeline.cluster.devices import array_namespace
    from pipeline.scaling.block_files import read_blocks, read_cuts
    from pipeline.scaling.synthetic import cuts_of, make_blocks
    from pipeline.training.xgboost.matrix import build_partition
    from pipeline.training.xgboost.rounds import train_rounds
    from pipeline.training.xgboost.spec import RoundsSpec

    spec = RoundsSpec(**assignment.spec)
    if assignment.synthetic is not None:
        data = Synthetic(**assignment.synthetic)
        blocks, cuts, names = make_blocks(data, 0, data.rows), cuts_of(data), data.names
    else:
        blocks = read_blocks(Path(assignment.folder))
        cuts, names = read_cuts(Path(assignment.folder))
    partition = build_partition(blocks, cuts, names, threads=spec.threads, xp=array_namespace(spec.device))  # type: ignore[arg-type]  # "cpu" or "cuda"
    del blocks
    train_rounds(partition, dataclasses.replace(spec, rounds=WARMUP))  # starts threads, touches memory

    def train() -> Sequence[float]:
        meter = train_rounds(partition, spec).meter
        assert meter is not None
        return tuple(float(value) for value in meter.wall + meter.between)  # as the workers' rounds are timed

    return train, partition.train.rows


if __name__ == "__main__":
    main()
