"""Writes samples as lines of JSON that Extra-P reads: one parameter point, one place in the program, one value a line.

Format: that of Extra-P's own reader (extrap/fileio/file_reader/jsonlines_file_reader.py).  The parameter is p, the
workers; repetitions are lines with the same p.  A callpath begins with the mode.  Times are seconds of a round, means
over the workers; that of "round" is T, the longest worker's.
"""

import json
from collections.abc import Iterator
from statistics import fmean

from pipeline.efficiency.records import Configuration, ScalingSample

SAMPLES = "samples.jsonl"


def lines(configuration: Configuration, sample: ScalingSample) -> Iterator[str]:
    """The lines of one sample, each with its line break."""
    splits = [worker.split for worker in sample.workers]
    values = [
        ("round", "time", sample.seconds),
        ("round->useful", "time", fmean(split.useful for split in splits)),
        ("round->transfer", "time", fmean(split.transfer for split in splits)),
        ("round->wait", "time", fmean(split.wait for split in splits)),
        ("round->other", "time", fmean(split.other for split in splits)),
    ]
    sent = [worker.bytes_sent for worker in sample.workers if worker.bytes_sent is not None]
    if len(sent) == len(splits):
        values.append(("round->transfer", "bytes_sent", fmean(sent) / configuration.rounds))
    elif len(splits) == 1:  # Extra-P requires every value at every p
        values.append(("round->transfer", "bytes_sent", 0.0))
    for callpath, metric, value in values:
        line = {
            "params": {"p": configuration.workers},
            "callpath": f"{configuration.mode}->{callpath}",
            "metric": metric,
            "value": value,
        }
        yield json.dumps(line, allow_nan=False) + "\n"
