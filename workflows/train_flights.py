"""Train on New York's flights of 2013, predict December, and ask the model about one flight.

    python workflows/train_flights.py FOLDER [--rounds 300] [--out models/flights]

FOLDER holds nycflights13 as Parquet, one folder per month (see flights.toml).
"""

import argparse
from pathlib import Path

import pyarrow.parquet

import pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("models/flights"))
    args = parser.parse_args()

    settings = [
        f"data.source='{args.folder.resolve()}'",
        f"training.rounds={args.rounds}",
        f"output.model='{args.out}'",
        "output.overwrite=true",
    ]
    job = pipeline.Job.load(Path(__file__).parent / "flights.toml", settings)
    with pipeline.connect(job) as client:
        result = pipeline.train(client, job)
        predictions = args.out.with_name(args.out.name + "-december")
        pipeline.predict(client, result.model, str(args.folder / "month=12"), out=predictions, overwrite=True)

    for name, value in result.summary["metrics"]["validation"].items():
        print(f"{name}: {value}")
    late = pyarrow.parquet.read_table(predictions)["probability"].to_numpy()
    print(f"December: {len(late):,} flights, mean probability of being late {late.mean():.3f}, in {predictions}")

    # Without a cluster: the folder is all that a program which serves the model needs.
    model = pipeline.Model.load(args.out)
    flight = {"month": [12], "day": [23], "hour": [18.0], "minute": [30.0], "carrier": ["EV"], "origin": ["EWR"],
              "dest": ["ORD"], "tailnum": ["N14228"], "flight": [4127], "distance": [719.0]}  # fmt: skip
    print(f"EWR to ORD two days before Christmas, 18:30: {model.predict(flight)[0]:.3f}")


if __name__ == "__main__":  # Dask's workers import this file: nothing may run while they do
    main()
