"""Lists the job fields that are newer than the first checkpoints, and what their absence in a checkpoint means.

A checkpoint holds every field of the job that decides the model, with its value.  One written by an earlier version
lacks the fields that came later; each is read as the value that reproduces that version's behaviour.  This is not
always today's default: where a default changes, the entry keeps the old behaviour, and an old run is never resumed with
the new.

A new field under `data`, `preprocess` or `training` needs an entry here, unless `checkpoint.FREE` names it; a test
fails until it has one.
"""

import fnmatch
from collections.abc import Mapping
from typing import Any

# Dotted path of a field -> its value in checkpoints that lack it; * matches a name, e.g. of a column.
FIELDS_SINCE: dict[str, Any] = {
    "data.csv.decimal": ".",
    "data.csv.encoding": "utf-8",
}


def field_value(job: Mapping[str, Any], path: str, fields: Mapping[str, Any] | None = None) -> Any:
    """Returns a job's field by its dotted path; if the job lacks it, what its absence means, or None.

    >>> field_value({"data.target": "y"}, "data.csv.encoding", {"data.csv.encoding": "utf-8"})
    'utf-8'
    """
    if path in job:
        return job[path]
    known = FIELDS_SINCE if fields is None else fields
    return next((value for pattern, value in known.items() if fnmatch.fnmatchcase(path, pattern)), None)
