"""Retries reads that fail for a transient reason: which errors are transient, and how long to wait.

    transient      the connection broke, a timeout, an I/O error of a disk, the server is too busy (429, 5xx)
    not transient  no such file, no permission, a folder; damaged content is not handled in this module

Code that reads storage turns its errors into `failure(path, error)`: an AccessError where a retry is useless, or a
Hiccup, which passes through Arrow and every reader up to `patiently`.
"""

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.data import keys
from pipeline.errors import AccessError, PipelineError, ReadError, one_line

JITTER = 0.5  # largest share of a wait that is added at random: readers that failed together do not retry together
LONGEST_REASON = 200  # characters
_RETRIED_STATUS = (408, 425, 429)  # of HTTP: timeout, too early, too many requests; all other 4xx are permanent
_DENIED, _NO_SUCH = (401, 403, 407), (404, 410)
_LASTING_TYPES = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError, ValueError)
_LASTING_NUMBERS = {errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG, errno.ENODEV, errno.ENXIO, errno.EROFS}


class TransientReadError(Exception):
    """Storage failed for a reason that may pass; the message is that reason.  It never reaches the user in this form."""


class NoSuchFile(AccessError):
    """The file does not exist, or no longer exists."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often a read is retried, and the waits between tries."""

    waits_seconds: tuple[float, ...] = (0.5, 1.0, 2.0)
    sleep: Callable[[float], None] = time.sleep
    longest_seconds: float = (
        60.0  # no further try starts after this time: a server that does not answer is not asked again
    )
    clock: Callable[[], float] = time.monotonic


RETRY_POLICY = RetryPolicy()


def patiently[Result](read: Callable[[], Result], where: str, patience: RetryPolicy | None = None) -> Result:
    """The result of `read()`, retried where it raises Hiccup; after the last try ReadError, naming `where` and the
    tries.

    The waits are the same in every run: their jitter follows from `where` and the try.
    """
    patience = RETRY_POLICY if patience is None else patience
    tries, begin = 0, patience.clock()
    while True:
        try:
            return read()
        except TransientReadError as error:
            tries += 1
            if tries > len(patience.waits_seconds) or patience.clock() - begin >= patience.longest_seconds:
                many = f"{tries} tries" if tries > 1 else "1 try"
                raise ReadError(f"{where}: cannot be read after {many}: {error}") from None
        patience.sleep(wait_seconds(patience, where, tries))


def wait_seconds(patience: RetryPolicy, where: str, tries: int) -> float:
    """The wait after `tries` tries: the configured wait plus up to half of it.

    >>> waits = [wait_seconds(RetryPolicy(), "/data/a.parquet, row group 3", tries) for tries in (1, 2, 3)]
    >>> all(low <= wait < 1.5 * low for low, wait in zip((0.5, 1.0, 2.0), waits))
    True
    """
    share = keys.seed_for(tries, "retry", where) / 2.0**64
    return patience.waits_seconds[tries - 1] * (1 + JITTER * share)


def failure(path: str, error: BaseException) -> BaseException:
    """The error to raise for a storage error: AccessError where it is permanent, else Hiccup."""
    if isinstance(error, (PipelineError, TransientReadError, MemoryError)):
        return error
    if isinstance(error, FileNotFoundError):
        cause = error.__cause__  # over HTTP fsspec raises FileNotFoundError for every failure
        from_network = isinstance(cause, OSError) or type(cause).__module__.partition(".")[0] == "aiohttp"
        if cause is not None and from_network and not isinstance(found := failure(path, cause), NoSuchFile):
            return found
        return NoSuchFile(f"{path}: no such file or folder")
    if isinstance(error, PermissionError):
        return AccessError(f"{path}: not readable: permission denied")
    status = getattr(error, "status", None)  # of aiohttp's errors
    if status in _DENIED:
        return AccessError(f"{path}: access denied ({status}): check the user, password or signature in the URL")
    if status in _NO_SUCH:
        return NoSuchFile(f"{path}: no such file ({status})")
    refused = isinstance(status, int) and 400 <= status < 500 and status not in _RETRIED_STATUS
    if refused or isinstance(error, _LASTING_TYPES) or getattr(error, "errno", None) in _LASTING_NUMBERS:
        return AccessError(f"{path}: {reason_of(error)}")
    return TransientReadError(reason_of(error))


def reason_of(error: BaseException) -> str:
    """A library's error as one short line.

    >>> reason_of(OSError(5, "Input/output error")), reason_of(TimeoutError()), reason_of(ValueError("a\\nb"))
    ('Input/output error', 'TimeoutError', 'a')
    """
    said = getattr(error, "strerror", None) or str(error)
    line = next((line for line in said.splitlines() if line.strip()), type(error).__name__)
    return one_line(line[:LONGEST_REASON])
