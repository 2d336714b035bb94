"""Plays one fault once on one cluster: from the run to the verdict."""

import dataclasses
import random
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faults import acts as deeds
from faults import leftovers, traps
from faults.bench import Bench, Undisturbed
from faults.places import DEATH_SECONDS, WORKERS, Local, Processes, worker_names
from faults.runs import Ended, Missed, Wrong
from faults.script import BESIDE, RECOVERS, REFUSES, RERUNS, RESUMES, UNHARMED, Act, Choice, Outcome, Script
from faults.workloads import CHECKPOINT_ROUNDS, USUAL
from pipeline.model.artifact import Model
from pipeline.training.checkpoint import folder_for

LEAVE_SECONDS = 10.0  # that a worker takes, after its death timeout, to leave a lost scheduler


@dataclass(frozen=True)
class Verdict:
    """The result of a trial that ended as its row requires; otherwise Wrong is raised."""

    faults: int
    runs: int  # of the command; two if it was resumed
    equal: str  # "bytes", or "no model" if none was expected
    seconds: float  # of all runs
    lost_seconds: float | None  # per fault: excess over the undisturbed run; None if not comparable
    ended: Ended  # the last run


class Trial:
    """A bench, a place, and the choices that a fault leaves open."""

    def __init__(
        self,
        bench: Bench,
        place: Local | Processes,
        rng: random.Random | None = None,
        *,
        workload: str = USUAL,
        workers: int = WORKERS,
    ) -> None:
        self.bench, self.place, self._rng = bench, place, rng
        self.workload, self.workers = workload, workers
        self.mark = uuid.uuid4().hex

    def play(self, write: Callable[[Choice], Script], outcome: Outcome) -> Verdict:
        """Plays the script on a healed place.  Wrong says what differs from the requirement.

        Missed if the fault did not happen and the run ended like an undisturbed one.
        """
        plain = self.bench.undisturbed(self.place, self.workload)
        with self.bench.folder_for_a_run(self.workload) as folder:
            script = write(self._choose(folder, plain))
            expected = self.bench.undisturbed(self.place, self.workload, script.model_settings)
            self.place.heal(self.workers)
            ended, left = self._disturbed(folder, script)
            if undone := not_done(script, ended, left):
                self._check_undisturbed(folder, expected, ended, undone)
                raise Missed(f"not all faults happened: {undone}\n{ended}\n{self.place.missing()}")
            self._check_said(script, ended)
            walls, equal, lost = [ended.seconds], "no model", None
            if outcome in (RECOVERS, UNHARMED):
                self.check_recovered(script, outcome, ended)
            else:
                self._check_stopped(script, ended, folder)
            if outcome in (RESUMES, RERUNS):
                ended = self._again(folder, script, ended, resume=outcome == RESUMES)
                walls.append(ended.seconds)
            if outcome != REFUSES:
                self._compare(folder, expected, ended)
                equal = "bytes"
                if self.workers == WORKERS:  # as many as the undisturbed run had
                    lost = (sum(walls) - float(np.median(expected.seconds))) / script.faults
            self.check_clean(folder, script, ended)
            return Verdict(script.faults, len(walls), equal, sum(walls), lost, ended)

    def _disturbed(self, folder: Path, script: Script) -> tuple[Ended, int]:
        """Runs with the faults; returns the run, and how many traps did not go off."""
        with self.place.arranged(script.cluster):
            traps.arm(self.place.traps, *script.traps)
            try:
                ended = self._train(folder, script)
            finally:
                _, left = traps.disarm(self.place.traps)
        return ended, left

    def _choose(self, folder: Path, plain: Undisturbed) -> Choice:
        names = worker_names(self.workers)
        middle = plain.last_round // 2
        worker, other, *_ = names
        if self._rng is not None:
            middle = self._rng.randrange(2 * CHECKPOINT_ROUNDS + 2, plain.last_round - 2)
            worker, other = self._rng.sample(names, 2)
        return Choice(
            worker=worker, other=other, round=middle, last=plain.last_round, seconds=float(np.median(plain.seconds)),
            checkpoint_rounds=CHECKPOINT_ROUNDS, data=str(folder / "data"), original=str(self.bench.data),
            spare=str(self.bench.spare), model=str(folder / "out" / "model"), ballast=str(folder / "out" / "ballast"),
        )  # fmt: skip

    def _train(self, folder: Path, script: Script, *, again: bool = False, resume: bool = False) -> Ended:
        acts = () if again else tuple(self._resolved(act) for act in script.acts)
        patched = any(act.do == "fill" for act in acts) and not deeds.may_be_filled(folder / "out")
        full = str(folder / "out" / "ballast") if patched else ""
        settings = (*script.settings, *script.model_settings)
        return self.bench.train(
            self.place, folder, *settings, resume=resume, acts=acts, mark=self.mark, full=full,
            limit_seconds=script.limit_seconds,
        )  # fmt: skip

    def _resolved(self, act: Act) -> Act:
        """Replaces the target by the process id, for processes that the client does not know."""
        if act.do == "signal" and act.target.partition(" ")[0] in ("scheduler", "nanny"):
            return dataclasses.replace(act, target=f"process {self.place.pid(act.target)}")
        return act

    def _check_undisturbed(self, folder: Path, expected: Undisturbed, ended: Ended, undone: str) -> None:
        """Checks a missed trial: a run ended by another cause, or by the first of several faults, is wrong, not missed."""
        _require(ended.exit_code == 0, f"the run failed before all faults happened ({undone})", ended)
        _require("Traceback" not in ended.stderr, "a traceback", ended)
        self._compare(folder, expected, ended)
        self.check_clean(folder, Script(), ended)

    def check_recovered(self, script: Script, outcome: Outcome, ended: Ended) -> None:
        _require(ended.exit_code == 0, "the run did not recover", ended)
        if outcome == UNHARMED:
            lost = [*ended.named("Restarted"), *ended.named("WorkerLost")]
            _require(not lost, "a worker was taken for lost", ended)
        self._check_rounds_lost(script, ended)

    def _check_said(self, script: Script, ended: Ended) -> None:
        _require(re.search(script.says, ended.stderr) is not None, f"stderr does not say {script.says!r}", ended)
        _require("Traceback" not in ended.stderr, "a traceback", ended)

    def _check_rounds_lost(self, script: Script, ended: Ended) -> None:
        """Checks how far restarts went back."""
        reached = 0
        for said in ended.events:
            if said.get("event") == "RoundDone":
                reached = said["round"]
            elif said.get("event") == "Restarted" and script.resumes_within is not None:
                lost = reached - said["round"]
                _require(lost <= script.resumes_within, f"{lost} rounds lost, not {script.resumes_within}", ended)

    def _check_stopped(self, script: Script, ended: Ended, folder: Path) -> None:
        """Checks an end without a model: the right exit code, one line, in time."""
        _require(ended.exit_code in script.exit_codes, f"exit code {ended.exit_code}, not {script.exit_codes}", ended)
        expected = 1 if ended.exit_code in (1, 2) else 0
        _require(len(ended.errors) == expected, f"{len(ended.errors)} lines of error", ended)
        _require(not (folder / "out" / "model").exists(), "a model folder though the run failed", ended)
        if script.told_seconds is not None:
            took = ended.named("Failed")[-1]["at"] - ended.acts[-1]["at"]
            _require(
                took <= script.told_seconds, f"reported {took:.1f} s after the fault, not {script.told_seconds}", ended
            )
        if script.ends_seconds is not None:
            took = ended.ended_at - ended.acts[-1]["at"]
            _require(
                took <= script.ends_seconds, f"ended {took:.1f} s after the fault, not {script.ends_seconds}", ended
            )
        left = leftovers.processes(self.mark)
        _require(not left, f"processes left behind: {left}", ended)

    def _again(self, folder: Path, script: Script, stopped: Ended, *, resume: bool) -> Ended:
        """Runs again once the place is healed, from the last checkpoint or from the beginning."""
        model = folder / "out" / "model"
        if resume:
            _require(any(folder_for(model).glob("round-*.checkpoint")), "no checkpoint remains", stopped)
            if stopped.exit_code >= 0:  # a killed process prints nothing
                _require(f"--resume {model}" in stopped.stderr, "the run does not say how to resume", stopped)
        if any(act.target == "scheduler" for act in script.acts) and isinstance(self.place, Processes):
            self.place.end_scheduler()
            left = self.place.gone(DEATH_SECONDS + LEAVE_SECONDS)
            _require(not left, f"workers that did not leave their dead scheduler: {left}", stopped)
        # The next run removes what a killed client's run has on disk: the end of the trial checks that.
        elif left := self.place.at_rest(files=stopped.exit_code >= 0):
            raise Wrong(f"workers did not become idle: {left}\n{stopped}")
        self.place.heal(self.workers)
        for act in script.between:
            deeds.do(act, self.place.traps)
        ended = self._train(folder, script, again=True, resume=resume)
        _require(ended.exit_code == 0, "the second run failed", ended)
        if resume:
            first = min((said["round"] for said in ended.named("RoundDone")), default=0)
            _require(first > 1 or not ended.named("RoundDone"), "the resumed run began at the beginning", ended)
        return ended

    def _compare(self, folder: Path, expected: Undisturbed, ended: Ended) -> None:
        """Raises Wrong unless the model equals the undisturbed one, byte for byte."""
        model = Model.load(folder / "out" / "model", threads=1)
        _require(model.sha256 == ended.result.get("sha256"), "the printed hash is another", ended)
        if model.booster_bytes != expected.model:
            distance = float(np.abs(self.bench.predict(model) - expected.predictions).max())
            _require(False, f"another model than the undisturbed one: predictions differ by {distance:.2g}", ended)

    def check_clean(self, folder: Path, script: Script, ended: Ended) -> None:
        """Checks that no process, file or task is left."""
        left = leftovers.processes(self.mark)
        _require(not left, f"processes left behind: {left}", ended)
        expected = [folder / name for name in ("job.toml", "data", "out/model", "tmp", *script.leaves)]
        found = leftovers.files(folder, *expected) + leftovers.files(folder / "tmp")
        _require(not found, f"files left behind: {found}", ended)
        self.place.heal(self.workers)  # the files of a worker that is gone are removed by the next one there
        if doing := self.place.at_rest():
            raise Wrong(f"workers still have something to do: {doing}\n{ended}")
        if kept := self.place.kept():
            raise Wrong(f"runs have left something on the workers: {kept}\n{ended}")


def not_done(script: Script, ended: Ended, left: int) -> str:
    """Returns what was to happen and did not; empty if all of it happened."""
    if script.departs and not ended.named("WorkerLost"):
        return "no worker left"
    steps = sum(act.times for act in script.acts if act.do in BESIDE)
    if not left and len(ended.acts) == len(script.acts) and ended.steps == steps:
        return ""
    said = f"{len(script.traps) - left} of {len(script.traps)} traps, {len(ended.acts)} of {len(script.acts)} acts"
    return said + (f", {ended.steps} of {steps} steps of them" if steps else "")


def _require(condition: bool, message: str, ended: Ended) -> None:
    if not condition:
        raise Wrong(f"{message}\n{ended}")
