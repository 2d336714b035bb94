"""Predict a folder with a trained model, and print the rows the model is surest of.

python workflows/predict_folder.py MODEL DATA OUT [--top 10]
"""

import argparse

import pyarrow.dataset

import pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--top", type=int, default=10)
    args = parser.parse_args()

    model = pipeline.Model.load(args.model)
    with pipeline.connect() as client:
        pipeline.predict(client, model, args.data, out=args.out)

    rows = pyarrow.dataset.dataset(args.out, format="parquet")
    score = "probability" if "probability" in rows.schema.names else "prediction"
    table = rows.to_table(columns=["row", score])
    best = table.sort_by([(score, "descending")]).slice(0, args.top)
    print(f"{table.num_rows:,} rows in {args.out}; the highest {score}:")
    for row, value in zip(best["row"].to_pylist(), best[score].to_pylist(), strict=True):
        print(f"  row {row:>10,}  {value:.4f}")


if __name__ == "__main__":  # Dask's workers import this file: nothing may run while they do
    main()
