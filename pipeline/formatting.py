"""Formats text for people: aligned columns, numbers, no control characters on a terminal, no secrets of URLs.

Names of columns, files and classes come from files that others have written; URLs may contain passwords and signatures.
"""

import re
import urllib.parse
from collections.abc import Iterable, Sequence
from typing import Any

LONGEST_MESSAGE = 1_000  # characters; column names may be of any length
HIDDEN = "***"  # in place of a secret
_BREAK = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
# A scheme, then the part before the first slash (for a password with a slash in it, up to the last @), then the rest.
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?:(?P<user>[^\s/?#]*|[^\s/?#:@]+:(?![0-9]+[/?#\s])[^\s]*)@)?"
    r"(?P<rest>(?:(?![A-Za-z][A-Za-z0-9+.-]*://)[^\s?])*)"
    r"(?P<query>\?\S*?(?=[:,;.'\")\]]*(?:\s|$)))?"
)
# For these schemes the part before the @ is a container or a repository, not a user.
_NO_USER = frozenset({"abfs", "abfss", "adl", "az", "wasb", "wasbs", "github"})
_WEB = frozenset({"http", "https", "ftp"})  # in other schemes a question mark may be part of a pattern


def one_line(text: str) -> str:
    r"""The text as one line for a terminal: names may contain line breaks and control characters.

    >>> one_line("no column 'a\nb'; did you mean \x1b[31mc?")
    "no column 'a b'; did you mean \\x1b[31mc?"
    """
    line = escaped(_BREAK.sub(" ", text).strip())
    if len(line) > LONGEST_MESSAGE:  # the fault is at the beginning, what to change at the end
        line = f"{line[: LONGEST_MESSAGE - 300]} ... {line[-295:]}"
    return line


def error_line(error: BaseException) -> str:
    """The message of an error as one line without secrets; the name of its class where it has no message.

    >>> error_line(OSError("http://me:secret@host/x: gone")), error_line(KeyError())
    ('http://***@host/x: gone', 'KeyError')
    """
    return one_line(without_secrets(str(error))) or type(error).__name__


def escaped(text: str) -> str:
    r"""The text with its control characters, bidirectional overrides and lone surrogates escaped.

    >>> escaped("a\x1b]52;c;eHg=\x07b\u202ec\n")
    'a\\x1b]52;c;eHg=\\x07b\\u202ec\\n'
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def for_terminal(text: str) -> str:
    r"""Text of several lines, safe for a terminal: like `escaped`, but line breaks stay.

    >>> for_terminal("column\n\x9b2Jx")
    'column\n\\x9b2Jx'
    """
    return "\n".join(map(escaped, text.split("\n")))


def json_for_terminal(text: str) -> str:
    r"""JSON in which characters unsafe for a terminal are JSON-escaped; its meaning does not change.

    >>> json_for_terminal('{"a\x9b": 1}')
    '{"a\\u009b": 1}'
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _json_escape(sign) for sign in text)


def without_secrets(text: str) -> str:
    """The text with user, password and query of each URL in it hidden; the rest stays, to identify the file.

    >>> without_secrets("http://me:pass@host/x.parquet?sig=T: no such file")
    'http://***@host/x.parquet?***: no such file'
    >>> without_secrets("s3://bucket/part-?.parquet, abfs://container@account/x")
    's3://bucket/part-?.parquet, abfs://container@account/x'
    """
    return _URL.sub(_hidden, text) if "://" in text else text


def hidden_in(value: object) -> object:
    """A value of JSON's types with `without_secrets` applied to every text in it."""
    if isinstance(value, str):
        return without_secrets(re.sub(r"\s", "%20", value) if _URL.match(value) else value)
    if isinstance(value, dict):
        return {key: hidden_in(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [hidden_in(inner) for inner in value]
    return value


def server_of(url: str) -> str:
    """Scheme and host of a URL whose path may itself be a secret.

    >>> server_of("https://me:pass@hooks.example/services/T0/B0?x=1")
    'https://hooks.example/***'
    """
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{HIDDEN}"


def aligned(rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """The rows as lines with aligned columns; the columns numbered in `right` are right-aligned.

    >>> aligned([("rows", "9"), ("features", "28")], right=[1])
    ['rows       9', 'features  28']
    """
    rows, right = [[escaped(cell) for cell in row] for row in rows], set(right)
    columns = max(map(len, rows), default=0)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(columns)]
    return [
        "  ".join(
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]  # fmt: skip


def number(value: Any) -> str:
    """A number as readable text: 336,776 or 0.54131; "-" for None."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.5g}"


def nbytes(value: float) -> str:
    """
    >>> nbytes(1_080_000_000)
    '1.08 GB'
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} bytes"


def many(count: int, noun: str) -> str:
    """
    >>> many(1, "worker"), many(1_200, "worker")
    ('1 worker', '1,200 workers')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def mib(value: float) -> str:
    """
    >>> mib(1_288_490_189)
    '1,229 MiB'
    """
    return f"{value / 2**20:,.0f} MiB"


def duration(seconds: float) -> str:
    """
    >>> duration(0.25), duration(7.4), duration(133), duration(8000)
    ('0.2 s', '7 s', '2 min 13 s', '2 h 13 min')
    """
    if seconds < 1:
        return f"{seconds:.1f} s" if seconds > 0 else "0 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _hidden(found: re.Match[str]) -> str:
    scheme, user, rest, query = found["scheme"], found["user"], found["rest"], found["query"]
    kind = scheme.lower()
    if user is not None and (":" in user or kind not in _NO_USER):
        user = HIDDEN
    if query is not None and (kind in _WEB or "=" in query):
        query = f"?{HIDDEN}"
    return f"{scheme}://{'' if user is None else f'{user}@'}{rest}{query or ''}"


def _json_escape(sign: str) -> str:
    number = ord(sign)
    if number > 0xFFFF:
        number -= 0x10000
        return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
    return f"\\u{number:04x}"
