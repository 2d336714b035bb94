"""The harness itself: what it must notice, it notices."""

import contextlib
import dataclasses
import os
import random
import socket
import subprocess
import sys
import types
import uuid
from pathlib import Path
from typing import Any

import pytest

from benchmarks import chaos
from faults import leftovers, traps, trial
from faults.acts import damage, meant
from faults.bench import Bench, seconds_per_round
from faults.flips import flip_all
from faults.places import kept_on
from faults.proxy import Proxy, stall
from faults.runs import Ended, Missed, Wrong
from faults.script import RECOVERS, UNHARMED, Act, Choice, Script, Trap
from faults.table import TABLE, Row
from faults.trial import Trial, Verdict
from faults.workloads import WORKLOADS
from pipeline.events.types import FragmentDone, RoundDone
from pipeline.preprocess.row_cache import RowCache
from pipeline.runtime.task_ledger import Ledger
from pipeline.runtime.worker_session import NAME, WorkerSession

from .conftest import Places


@pytest.mark.slow
def test_another_model_is_wrong(bench: Bench, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    place = places("processes")
    known = bench.undisturbed(place)
    other = dataclasses.replace(known, model=b"", predictions=known.predictions + 1e-3)
    monkeypatch.setattr(bench, "undisturbed", lambda *_: other)
    with pytest.raises(Wrong, match=r"another model .*: predictions differ by 0\.001"):
        Trial(bench, place).play(lambda _: Script(), RECOVERS)


def test_a_fault_that_does_not_happen_is_missed(bench: Bench, places: Places) -> None:
    def never(_: Choice) -> Script:
        return Script(traps=(Trap(at="rounds", round=100_000),))

    with pytest.raises(Missed, match="0 of 1 traps"):
        Trial(bench, places("processes")).play(never, RECOVERS)


@pytest.mark.slow
def test_a_run_that_fails_before_its_fault_is_wrong_and_not_missed(
    bench: Bench, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = places("local")
    bench.undisturbed(place)
    failed = Ended(1, "pipeline: error: worker 0 lost", [], {}, 1.0, 1.0)
    monkeypatch.setattr(bench, "train", lambda *_, **__: failed)

    def two(_: Choice) -> Script:
        return Script(traps=(Trap(at="rounds", round=20), Trap(at="rounds", round=40)), faults=2)

    with pytest.raises(Wrong, match=r"failed before all faults happened \(0 of 2 traps"):
        Trial(bench, place).play(two, RECOVERS)


def test_what_a_run_leaves_on_the_workers_is_wrong(
    bench: Bench, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = places("local")
    monkeypatch.setattr(place, "kept", lambda: ["worker 0 keeps rows of fragment 1 of run x"])
    with pytest.raises(Wrong, match="worker 0 keeps rows of fragment 1"):
        Trial(bench, place).check_clean(tmp_path, Script(), Ended(0, "", [], {}, 1.0, 1.0))


def test_what_workers_keep_of_a_run_is_seen() -> None:
    session = WorkerSession()
    worker = types.SimpleNamespace(plugins={"traps": None, "pipeline-other": None, NAME: session})
    assert kept_on(worker) == ["the plugin pipeline-other"]
    rows: Any = RowCache(session)
    session.put("x", rows)
    rows.rows[3] = types.SimpleNamespace(value=None, nbytes=8)
    session.put("x", Ledger("x"))
    left = ["rows of 1 fragment of run x", "the ledger of its tasks of run x"]
    assert kept_on(worker) == ["the plugin pipeline-other", *left]


def test_a_process_left_behind_is_seen_and_ended() -> None:
    mark = uuid.uuid4().hex
    environment = {**os.environ, leftovers.MARK: mark}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment) as process:
        assert [str(process.pid)] == [line.split()[0] for line in leftovers.processes(mark, 0)]
        leftovers.end(mark)
        assert process.wait(10) < 0
    assert leftovers.processes(mark, 0) == []


def test_files_left_behind_are_seen_but_not_dasks_own(tmp_path: Path) -> None:
    kept, scratch = tmp_path / "out" / "model", tmp_path / "dask-scratch-space" / "worker-abc"
    for folder in (kept, scratch):
        folder.mkdir(parents=True)
    for path in (kept / "model.ubj", scratch / "x.dirlock", tmp_path / "dask-scratch-space" / "global.lock"):
        path.touch()
    assert leftovers.files(tmp_path, kept) == []
    for path in (scratch / "block.arrow", tmp_path / "out" / ".model.1.partial"):
        path.touch()
    assert leftovers.files(tmp_path, kept) == ["dask-scratch-space/worker-abc/block.arrow", "out/.model.1.partial"]


def test_traps_are_counted_as_they_are_taken_away(tmp_path: Path) -> None:
    traps.arm(tmp_path, Trap(at="blocks"), Trap(at="rounds", round=3))
    done: list[Trap] = []

    class Noted(traps.Traps):
        """Or this process would be killed."""

        def do(self, trap: Trap) -> None:
            done.append(trap)

    minder = Noted(str(tmp_path))
    minder.worker = "0"
    for stage, number in (("matrix", 0), ("rounds", 2), ("rounds", 3), ("rounds", 3)):
        minder.spring(stage, number)
    assert done == [Trap(at="rounds", round=3)]
    assert traps.disarm(tmp_path) == (1, 1)
    assert list(tmp_path.iterdir()) == []


def test_damage(tmp_path: Path) -> None:
    for name in ("round-000010.checkpoint", "round-000020.checkpoint"):
        (tmp_path / name).write_bytes(b"0123456789")
    pattern = str(tmp_path / "round-*.checkpoint")
    damage(Act("flip", pattern))
    damage(Act("halve", pattern))
    assert (tmp_path / "round-000010.checkpoint").read_bytes() == b"0123456789"
    assert (tmp_path / "round-000020.checkpoint").read_bytes() == b"01234"
    damage(Act("delete", pattern))
    assert not (tmp_path / "round-000020.checkpoint").exists()


def test_acts_wait_for_their_event() -> None:
    act = Act("clock", "client", "RoundDone", round=20)
    rounds = [RoundDone(round=n, rounds=99, metrics={}, best_round=n, rows_per_second=1.0) for n in (19, 20, 25)]
    assert [meant(act, event) for event in rounds] == [False, True, True]
    stage = FragmentDone(stage="blocks", done=1, total=2, rows=3)
    assert meant(Act("clock", "client", "FragmentDone", stage="blocks"), stage)
    assert not meant(Act("clock", "client", "FragmentDone", stage="survey"), stage)


def test_the_report_counts_faults_and_takes_the_median_over_them() -> None:
    ended = Ended(0, "", [], {}, 1.0, 1.0)
    first, second = TABLE[:2]
    played = [
        chaos.Played(first, "local", Verdict(1, 1, "bytes", 6.0, 5.0, ended)),
        chaos.Played(first, "processes", Verdict(3, 2, "bytes", 6.0, 1.0, ended), workload="ranking", workers=3),
        chaos.Played(second, "local", None, "hangs", number=9),
    ]
    lines = chaos.report(played)
    assert [line["of"] for line in lines] == [
        first.fault, second.fault, "binary", "ranking", "2 workers", "3 workers", RECOVERS, "all",
    ]  # fmt: skip
    of_first, everything = lines[0], lines[-1]
    assert of_first["lost_seconds, median"] == 1.0
    assert of_first["lost_seconds, worst"] == 5.0
    assert (everything["trials"], everything["ended as they must"], everything["faults"]) == (3, 2, 5)
    assert (everything["models"], everything["equal to the byte"]) == (2, 2)
    assert "WRONG: hangs" in chaos.line(played[2])
    kept = played[1].as_record()
    assert (kept["workload"], kept["workers"], played[2].as_record()["number"]) == ("ranking", 3, 9)


SLOW = next(row for row in TABLE if row.local == UNHARMED)


def played(faults: int = 1, lost_seconds: float | None = 1.0, row: Row = TABLE[0], **otherwise: str) -> chaos.Played:
    ended = Ended(0, "", [], {}, 1.0, 1.0)
    verdict = None if otherwise else Verdict(faults, 1, "bytes", 6.0, lost_seconds, ended)
    return chaos.Played(row, "local", verdict, **otherwise)


def test_missed_trials_are_counted_and_are_neither_wrong_nor_faults() -> None:
    missed = played(missed="0 of 1 traps")
    everything = chaos.report([played(), missed])[-1]
    counts = [everything[name] for name in ("trials", "ended as they must", "missed", "faults")]
    assert counts == [2, 1, 1, 1]
    assert missed.as_record()["missed"] == "0 of 1 traps"
    assert chaos.line(missed).endswith("0 of 1 traps")


@pytest.mark.parametrize(
    ("trials", "minutes", "says"),
    [
        ([played()] * 5, 2.0, []),
        ([played()], 0.5, []),
        ([played(faults=9)] * 6, 10.0, []),
        ([played()] * 5 + [played(wrong="hangs")], 2.0, ["1 of 6 trials did not end as they must"]),
        ([], 0.5, ["0 of 0 trials prove something; 0.5 minutes need 1"]),
        (
            [played()] + [played(missed="0 of 1")] * 3,
            2.0,
            ["1 of 4 trials prove something; 2 minutes need 2"],
        ),
        ([played()] * 49, 10.0, ["49 faults; a record of 10 minutes needs 50"]),
        ([played(lost_seconds=9.0)] * 5, 2.0, []),
        ([played()] * 30 + [played(lost_seconds=80.0, row=SLOW)] * 31, 10.0, []),  # a block lasts as long as it lasts
        (
            [played(lost_seconds=3.6)] * 30 + [played(lost_seconds=None)] * 31,  # a refusal has no cost
            10.0,
            [
                "a fault that the run recovers from cost 3.6 s in the median, more than 3.5 s: the checkpoint interval of 0.5 s and 3 s"
            ],
        ),
    ],
)
def test_what_a_run_has_to_show(trials: list[chaos.Played], minutes: float, says: list[str]) -> None:
    assert chaos.unmet(trials, minutes, interval_seconds=0.5) == says


def test_the_checkpoint_interval_is_that_of_the_undisturbed_runs(bench: Bench, places: Places) -> None:
    assert seconds_per_round([{"round": 1, "at": 5.0}, {"round": 7, "at": 5.5}, {"round": 21, "at": 7.0}]) == 0.1
    known = bench.undisturbed(places("local"))
    assert 0 < bench.interval_seconds() < min(known.seconds)


def test_flips_that_were_done_are_counted(tmp_path: Path) -> None:
    for size in (0, 1, 2, 30, 1000):
        (tmp_path / f"{size} bytes").write_bytes(bytes(size))
    flipped = flip_all(tmp_path, 200, random.Random(1))
    assert (flipped.files, flipped.flips, flipped.wrong) == (5, 0 + 1 + 2 + 30 + 200, ())


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert chaos.main(["--table"]) == 0
    printed = capsys.readouterr().out
    assert all(row.fault in printed and row.what in printed for row in TABLE)
    with pytest.raises(SystemExit):
        chaos.main(["--only", "no such fault"])
    assert "no fault is called so" in capsys.readouterr().err


def test_a_trial_follows_from_seed_and_number() -> None:
    options = chaos.parse(["--seed", "4"])
    drawn = [chaos.draw(options, number) for number in range(1, 2000)]
    again = [chaos.draw(options, number) for number in range(1, 2000)]
    assert [one.rng.random() for one in drawn] == [one.rng.random() for one in again]
    assert [(one.kind, one.row, one.workload, one.workers) for one in drawn] == [
        (one.kind, one.row, one.workload, one.workers) for one in again
    ]
    assert {one.workload for one in drawn[:14] if one.row.workloads == WORKLOADS} == set(WORKLOADS)
    assert {one.workers for one in drawn} == {2, 3, 4, 5}
    assert sum(one.workers > 2 for one in drawn) == pytest.approx(len(drawn) / 3, rel=0.2)
    assert {one.row for one in drawn} == {row for row in TABLE if row.often and row.write}
    (only,) = [chaos.draw(chaos.parse(["--seed", "4", "--only", "retired"]), number).kind for number in (3,)]
    assert only == "processes"


def test_a_proxy_passes_on_and_stalls(tmp_path: Path) -> None:
    stalled = tmp_path / "stalled"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        contextlib.closing(Proxy(server.getsockname()[1], stalled)) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as near,
    ):
        far, _ = server.accept()
        with far:
            near.sendall(b"out")
            assert far.recv(9) == b"out"
            far.sendall(b"back")
            assert near.recv(9) == b"back"
            stall(stalled, 60)
            near.sendall(b"late")
            far.settimeout(0.3)
            with pytest.raises(TimeoutError):
                far.recv(9)
            stall(stalled, 0)
            far.settimeout(10)
            assert far.recv(9) == b"late"


def test_acts_next_to_a_run_are_counted_by_their_steps() -> None:
    script = Script(acts=(Act("flap", "0", "Planned", times=3),))
    said = [{"act": {}}, {"step": 1}, {"step": 2}]
    assert (
        trial.not_done(script, Ended(0, "", said, {}, 1.0, 1.0), 0) == "0 of 0 traps, 1 of 1 acts, 2 of 3 steps of them"
    )
    assert trial.not_done(script, Ended(0, "", [*said, {"step": 3}], {}, 1.0, 1.0), 0) == ""


def test_a_worker_taken_for_lost_is_wrong_where_nothing_is(bench: Bench, places: Places) -> None:
    ended = Ended(0, "", [{"event": "WorkerLost"}, {"event": "Restarted", "round": 7}], {}, 1.0, 1.0)
    one = Trial(bench, places("local"))
    with pytest.raises(Wrong, match="taken for lost"):
        one.check_recovered(Script(), UNHARMED, ended)
    one.check_recovered(Script(), RECOVERS, ended)
