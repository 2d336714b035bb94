"""Errors on their way from a worker to the client.

Dask pickles an error with everything that it was raised from.  Some libraries' errors cannot be pickled (aiohttp's hold a
CIMultiDictProxy), and then a bare Exception arrives, whose class and exit code are lost.  `raise ... from None` does not
help: it hides the context and keeps it.
"""

import functools
from collections.abc import Callable

from pipeline.errors import PipelineError


def task[**Arguments, Result](function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorator of every function that runs as a task of Dask's: its own errors leave it without those of libraries."""

    @functools.wraps(function)
    def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        try:
            return function(*arguments, **options)
        except PipelineError as error:
            detach(error)
            raise

    return run


def detach(error: BaseException) -> None:
    """Takes the errors of libraries out of what an error was raised from; own ones stay."""
    while error is not None:
        if not isinstance(error.__cause__, PipelineError):
            error.__cause__ = None
        if not isinstance(error.__context__, PipelineError):
            error.__context__ = None
        following = error.__cause__ or error.__context__
        if following is None:
            return
        error = following
