"""Makes errors picklable on their way from a worker to the client.

Dask pickles an error with its whole chain of causes and contexts.  Some libraries' errors cannot be pickled (aiohttp's
hold a CIMultiDictProxy), and then a bare Exception arrives, whose class and exit code are lost.  `raise ... from None`
does not help: it hides the context but keeps it.
"""

import functools
from collections.abc import Callable

from pipeline.errors import PipelineError


def task[**Arguments, Result](function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorates every function that runs as a Dask task: removes library errors from the chains of our own errors."""

    @functools.wraps(function)
    def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        try:
            return function(*arguments, **options)
        except PipelineError as error:
            _detach(error)
            raise

    return run


def _detach(error: BaseException) -> None:
    """Removes the errors of libraries from an error's chain of causes and contexts; our own stay."""
    while error is not None:
        if not isinstance(error.__cause__, PipelineError):
            error.__cause__ = None
        if not isinstance(error.__context__, PipelineError):
            error.__context__ = None
        following = error.__cause__ or error.__context__
        if following is None:
            return
        error = following
