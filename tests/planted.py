"""Pickles that report being opened, in every form that a file or a text may hold."""

import base64
import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Payload:
    """Unpickled, it makes the marker file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def pickled(marker: Path, protocol: int = 4) -> bytes:
    return pickle.dumps(Payload(marker), protocol)


def texts(marker: Path) -> list[str]:
    """What might be evaluated, unpickled, rendered or looked up where a text is expected."""
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    return [
        pickled(marker, 0).decode("ascii"),
        base64.b64encode(pickled(marker)).decode(),
        code,
        f"{{{{ {code} }}}}",
        f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{marker}]]",
        f"$(touch {marker})",
    ]


def module(marker: Path) -> str:
    """The source of a module that makes the marker when it is imported or its function is called."""
    touch = f"__import__('pathlib').Path({str(marker)!r}).touch()\n"
    return f"{touch}def change(table):\n    {touch}    return table\n"


_unpickled: list[str] | None = None
_watched = 0  # the thread; Dask's own read pickles of the cluster


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class" and _unpickled is not None and threading.get_ident() == _watched:
        _unpickled.append(".".join(map(str, arguments)))


@contextmanager
def nothing_unpickled() -> Iterator[None]:
    """Fails where this thread looks up any class for a pickle inside; hooks stay for as long as the process lives."""
    global _unpickled, _watched
    if not any(getattr(sys, "_pickle_watched", ())):
        sys.addaudithook(_hook)
        sys._pickle_watched = (True,)  # type: ignore[attr-defined]
    _unpickled, _watched = [], threading.get_ident()
    try:
        yield
        assert _unpickled == []
    finally:
        _unpickled = None
