"""Holds what all trials share: the data, the jobs, and the undisturbed run of each."""

import contextlib
import shutil
import statistics
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from faults.places import Local, Processes
from faults.runs import Ended, Wrong, run
from faults.warm import Warm
from faults.workloads import CHECKPOINT_ROUNDS, USUAL, write_job, write_sources
from pipeline.model.artifact import Model

DISK_NBYTES = 12 * 2**20  # of the disk that the model is written to, if one can be mounted


@dataclass(frozen=True)
class Undisturbed:
    """A run without faults."""

    model: bytes = field(repr=False)  # UBJSON
    predictions: np.ndarray = field(repr=False)  # of the first file's rows
    last_round: int
    seconds: list[float]  # of the runs so far
    interval_seconds: list[float]  # between their checkpoints


class Bench:
    """Data in a folder; the undisturbed run of each job is made on first use.  To be closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.spare = folder / "data", folder / "spare.parquet"
        write_sources(self.data, self.spare)
        self._warm = Warm()
        self._known: dict[tuple[str, str, tuple[str, ...]], Undisturbed] = {}

    def close(self) -> None:
        """Ends the process that runs are forked from."""
        self._warm.close()

    @contextlib.contextmanager
    def folder_for_a_run(self, workload: str = USUAL) -> Iterator[Path]:
        """Gives a folder with the job, its own data, and an `out` on a small disk if one can be mounted."""
        folder = self.folder / f"run-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        write_job(folder / "job.toml", workload)
        shutil.copytree(self.data, folder / "data")
        out = folder / "out"
        out.mkdir()
        mounted = mount(out)
        try:
            yield folder
        finally:
            for mount_point in [path for path in out.glob("*") if path.is_mount()] + [out] * mounted:
                subprocess.run(["umount", "--lazy", str(mount_point)], check=True)
            shutil.rmtree(folder)

    def train(
        self, place: Local | Processes, folder: Path, *settings: str, resume: bool = False, **options: object
    ) -> Ended:
        """Runs the command on this place: `options` as of `run`."""
        given = [word for setting in [*place.settings(), *settings] for word in ("--set", setting)]
        again = ["--resume", str(folder / "out" / "model")] if resume else []
        arguments = [
            "train",
            str(folder / "job.toml"),
            "--json",
            "--out",
            str(folder / "out" / "model"),
            *again,
            *given,
        ]
        return run(self._warm, arguments, traps=place.traps, folder=folder, **options)  # type: ignore[arg-type]  # passed on

    def undisturbed(
        self, place: Local | Processes, workload: str = USUAL, model_settings: tuple[str, ...] = ()
    ) -> Undisturbed:
        """Returns the result of a run without faults on this place with two workers; makes it on first use."""
        key = (place.kind, workload, model_settings)
        if key not in self._known:
            made = self._run_undisturbed(place, workload, model_settings)
            for (kind, *job), known in self._known.items():
                if job == [workload, model_settings] and known.model != made.model:
                    raise Wrong(f"undisturbed runs of {workload} on {kind} and {place.kind} made different models")
            self._known[key] = made
        return self._known[key]

    def once_more(self, place: Local | Processes) -> None:
        """Makes another run without faults, for its time.  Wrong if its model differs."""
        before, now = self.undisturbed(place), self._run_undisturbed(place, USUAL, ())
        if before.model != now.model:
            raise Wrong(f"two undisturbed runs on {place.kind} made different models")
        before.seconds.extend(now.seconds)
        before.interval_seconds.extend(now.interval_seconds)

    def walls(self) -> dict[str, list[float]]:
        """Returns the seconds of the undisturbed runs, by kind of cluster, workload and model settings."""
        return {
            " ".join([kind, workload, *settings]): known.seconds
            for (kind, workload, settings), known in self._known.items()
        }

    def interval_seconds(self) -> float:
        """Returns the seconds between two checkpoints, the median of the undisturbed runs."""
        return statistics.median(seconds for known in self._known.values() for seconds in known.interval_seconds)

    def _run_undisturbed(self, place: Local | Processes, workload: str, model_settings: tuple[str, ...]) -> Undisturbed:
        place.heal()
        with self.folder_for_a_run(workload) as folder:
            ended = self.train(place, folder, *model_settings, acts=(), mark=uuid.uuid4().hex)
            if ended.exit_code:
                raise Wrong(f"the undisturbed run failed: {ended}")
            model = Model.load(folder / "out" / "model", threads=1)
            rounds = ended.named("RoundDone")
            interval = CHECKPOINT_ROUNDS * seconds_per_round(rounds)
            predictions = self.predict(model)
            return Undisturbed(model.booster_bytes, predictions, rounds[-1]["round"], [ended.seconds], [interval])

    def a_model(self, place: Local | Processes) -> Path:
        """Returns the folder of a new model with report and pictures, which no other trial uses."""
        place.heal()
        kept = self.folder / f"model-{uuid.uuid4().hex[:8]}"
        with self.folder_for_a_run() as folder:
            ended = self.train(place, folder, "output.report=true", acts=(), mark=uuid.uuid4().hex)
            if ended.exit_code:
                raise Wrong(f"the undisturbed run failed: {ended}")
            shutil.copytree(folder / "out" / "model", kept)
        return kept

    def predict(self, model: Model) -> np.ndarray:
        """Returns (rows,) float32: predictions of the first file."""
        return model.predict(pq.read_table(self.data / "part-00000.parquet"))


def seconds_per_round(rounds: Sequence[Mapping[str, Any]]) -> float:
    """Computes it from the first to the last of these RoundDone: not every round emits one."""
    first, last = rounds[0], rounds[-1]
    return float(last["at"] - first["at"]) / (last["round"] - first["round"])


def mount(folder: Path) -> bool:
    """Mounts a small disk in memory; False if this user may not."""
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_NBYTES}", "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
