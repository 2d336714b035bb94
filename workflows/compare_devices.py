"""The same job on the CPU and on the GPU: seconds and metrics side by side.

    python workflows/compare_devices.py JOB.toml [--set training.rounds=100 ...]

The models are close, not equal: a model is the same for any number of workers, not for any kind of device.
"""

import argparse
import tempfile
from pathlib import Path

import pipeline
from pipeline.errors import ClusterError


def train_on(device: str, job_file: str, settings: list[str]) -> dict | None:
    """The summary of a run on the device; None, with the reason printed, where it cannot be used."""
    with tempfile.TemporaryDirectory() as folder:
        here = [f"cluster.device={device}", f"output.model='{Path(folder) / device}'", "output.report=false"]
        job = pipeline.Job.load(job_file, [*settings, *here])
        try:
            with pipeline.connect(job) as client:
                return pipeline.train(client, job).summary
        except ClusterError as error:
            print(f"{device}: {error}")
            return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="FIELD=VALUE")
    args = parser.parse_args()

    summaries = {device: train_on(device, args.job, args.settings) for device in ("cpu", "cuda")}
    for device, summary in summaries.items():
        if summary is None:
            continue
        seconds, metrics = summary["seconds"], summary["metrics"]["validation"]
        numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
        print(f"{device}: rounds {seconds['rounds']:.2f} s, total {seconds['total']:.2f} s, {numbers}")


if __name__ == "__main__":  # Dask's workers import this file: nothing may run while they do
    main()
