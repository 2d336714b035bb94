"""Compares this project's installed command with what an expert writes by hand, from Parquet to a saved model.

    python -m benchmarks.end_to_end --rows 2000000 --features 28 --rounds 100 --repeat 3

Every run is a fresh process, measured from outside, imports and cluster included; the contenders take turns, so that
other load on the machine affects all of them.  All train to the same depth, bins, learning rate and rounds, evaluate
the log loss of the same held-out file in every round, save the model and compute the held-out AUC.
"""

import argparse
import itertools
import os
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import record
from benchmarks.contenders import ALL, Contender, Outcome, Setting, attempt
from benchmarks.end_to_end_report import draw, equal_quality, summarise, tabulate
from pipeline.data.synthetic import generator
from pipeline.events.types import discard

TRAIN_FILES = 16
HELDOUT_ROWS_AT_MOST = 500_000


@dataclass(frozen=True)
class Files:
    train: Path
    heldout: Path


def make_files(cache: Path, rows: int, features: int, seed: int) -> Files:
    """Makes sixteen training files, and one held-out file of a tenth of their rows from the same source."""
    folder = cache / f"numeric-{rows}x{features}-seed{seed}"
    files = Files(folder / "train", folder / "heldout.parquet")
    if not files.train.exists():
        generator.generate(
            files.train, rows=rows, seed=seed, files=TRAIN_FILES, kind="numeric", features=features, listen=discard
        )
    if not files.heldout.exists():
        held_rows = min(max(rows // 10, 1_000), HELDOUT_ROWS_AT_MOST)
        generator.write_file(files.heldout, generator.Chunk("numeric", seed, TRAIN_FILES, rows, held_rows, features))
    return files


def warm(files: Files) -> None:
    """Reads the files once, so that no contender pays for first reading the disk."""
    for path in [*files.train.iterdir(), files.heldout]:
        path.read_bytes()


def turns(contenders: list[Contender], repeat: int) -> list[Contender]:
    """Orders the runs: every contender once per repetition, each repetition beginning with another one."""
    shift = itertools.count()
    order = []
    for _ in range(repeat):
        first = next(shift) % len(contenders)
        order += contenders[first:] + contenders[:first]
    return order


def measure(options: argparse.Namespace, contenders: list[Contender], cache: Path) -> list[Outcome]:
    outcomes = []
    for seed in options.seeds:
        files = make_files(cache, options.rows, options.features, seed)
        warm(files)
        setting = Setting(
            train=files.train, heldout=files.heldout, seed=seed, rounds=options.rounds, depth=options.depth,
            max_bin=options.max_bin, learning_rate=options.learning_rate, threads=options.threads, device=options.device,
        )  # fmt: skip
        for contender in turns(contenders, options.repeat):
            outcome = attempt(contender, setting)
            outcomes.append(outcome)
            print(outcome.line(), file=sys.stderr, flush=True)
    return outcomes


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="training rows; a tenth more is held out")
    parser.add_argument("--features", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each contender, per seed")
    parser.add_argument("--seeds", default="0", help="seeds of the data, e.g. 0,1,2,3,4; AUC is averaged over them")
    parser.add_argument("--only", default="", help=f"some of: {', '.join(ALL)}")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--max-bin", type=int, default=255)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cache", type=Path, help="folder to keep the data in; default: a temporary one")
    parser.add_argument("--results", type=Path, default=record.RESULTS, help="folder of the record")
    parser.add_argument("--name", help="of the record; default: from rows, features and device")
    options = parser.parse_args(arguments)
    options.seeds = [int(seed) for seed in options.seeds.split(",")]
    names = options.only.split(",") if options.only else [n for n, c in ALL.items() if c.device == options.device]
    if unknown := [name for name in names if name not in ALL]:
        parser.error(f"--only {','.join(unknown)}: expected some of {', '.join(ALL)}")
    options.contenders = [ALL[name] for name in names]
    return options


def main(arguments: list[str] | None = None) -> Path:
    options = parse(arguments)
    about = record.circumstances()
    cache = options.cache or Path(tempfile.mkdtemp(prefix="end-to-end-"))
    try:
        outcomes = measure(options, options.contenders, cache)
    finally:
        if options.cache is None:
            shutil.rmtree(cache, ignore_errors=True)
    summary = summarise(outcomes)
    settings = {
        key: getattr(options, key)
        for key in (
            "rows",
            "features",
            "rounds",
            "repeat",
            "seeds",
            "depth",
            "max_bin",
            "learning_rate",
            "threads",
            "device",
        )
    }
    name = options.name or f"end_to_end-{options.rows}x{options.features}-{options.device}"
    full = {
        "benchmark": "end_to_end", **about, "settings": settings, "summary": summary,
        "equal_quality": equal_quality(outcomes), "runs": [asdict(outcome) for outcome in outcomes],
    }  # fmt: skip
    path = record.write(name, full, options.results)
    draw(summary, settings, path.with_suffix(".png"))
    print(tabulate(full))
    print(f"record: {path}")
    return path


if __name__ == "__main__":
    main()
