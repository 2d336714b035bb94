"""Checks that files have not changed since the source was opened.

The check runs after reading, whether that succeeded or failed: one check finds changes before and during the read.
"""

import functools
import platform
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pipeline.data.files.listing import QUERY_ENDING, File
from pipeline.data.files.retries import NoSuchFile, patiently
from pipeline.data.files.storage import Facts, exists, facts, is_url
from pipeline.data.fragments import FileFingerprint, Fragment
from pipeline.errors import AccessError


def with_fingerprints(fragments: Iterable[Fragment], files: Sequence[File], kind: str) -> tuple[Fragment, ...]:
    """The fragments of a source of this format with the stamps of their files added."""
    stamps: dict[str, tuple[FileFingerprint, ...]] = {
        file.path: (_stamp(file.path, Facts(file.nbytes, file.mark)),) for file in files
    }
    if kind == "libsvm":  # a .query file decides on groups as the rows do
        for path in stamps:
            name = path + QUERY_ENDING
            if patiently(functools.partial(exists, name), name):
                stamps[path] += (_stamp(name, patiently(functools.partial(facts, name), name)),)
    return tuple(
        replace(fragment, pieces=tuple(replace(piece, stamps=stamps[piece.path]) for piece in fragment.pieces))
        for fragment in fragments
    )


def _stamp(path: str, known: Facts) -> FileFingerprint:
    return FileFingerprint(path, known.nbytes, known.mark, "" if is_url(path) else platform.node())


def check_unchanged(stamps: Iterable[FileFingerprint]) -> None:
    """AccessError where one of the files was removed or written to since.

    On a machine other than the stamp's, where the path may lead to a copy, only the size is compared.
    """
    for stamp in stamps:
        try:
            now = facts(stamp.path)
        except NoSuchFile:
            raise AccessError(f"{stamp.path}: was deleted during the run") from None
        if now.nbytes != stamp.nbytes:
            raise AccessError(
                f"{stamp.path}: changed during the run ({now.nbytes} bytes now, {stamp.nbytes} when it began)"
            )
        here = not stamp.machine or stamp.machine == platform.node()
        if here and stamp.mark is not None and now.mark is not None and now.mark != stamp.mark:
            raise AccessError(
                f"{stamp.path}: changed during the run ({now.nbytes} bytes now as when it began, but written to since)"
            )
