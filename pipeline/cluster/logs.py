"""Silences Dask's loggers, except in debug mode.

Records still reach the buffers Dask keeps for `Client.get_scheduler_logs()`; only output to the terminal is suppressed,
including tracebacks of connections that close at shutdown.
"""

import logging

_FAMILIES = ("distributed", "dask", "bokeh", "tornado", "asyncio")
NEVER = logging.CRITICAL + 1


def silence() -> None:
    """Keeps the loggers of Dask, Tornado, Bokeh and asyncio in this process off the terminal."""
    known = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in _FAMILIES]
    for name in {*_FAMILIES, *known}:
        logger = logging.getLogger(name)
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                handler.setLevel(NEVER)
    for name in _FAMILIES:
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
