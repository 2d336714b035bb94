"""Bounds the cost of SQL expressions: the functions they may use, their depth, the length of their texts.

DuckDB's own memory limit does not count the texts that an expression makes, and folding constants cannot be
interrupted. So bounds are derived from the tree before anything is evaluated: every node's text is at most

    times * (bytes of the row's texts) + plus        (bytes)

where `times` and `plus` follow from its children's.  `plus` is bounded, as constants are folded before any row is read;
`times` decides into how small parts a fragment has to be cut (see `expressions.evaluate`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import JobError

LONGEST_TEXT = 100_000  # characters of an expression
MOST_DEPTH = 200  # of nested operations; DuckDB and Python recurse
MOST_COUNT = 1_000  # characters that one call may pad to, or repetitions that it may make
MOST_PLUS = 1 << 14  # bytes of text that constants can become
MOST_TIMES = 4_000  # relative to a row's texts: all texts made for a result
VALUE_NBYTES = 40  # of a number, time or truth value as text
TOO_DEEP = (
    f"operations nested more than {MOST_DEPTH} deep (a sum of so many terms is): make parts of it columns of their own in "
    "data.derive"
)
_UP = 3  # bytes that a byte may become where letters change case: Unicode's maximum

# Functions of a row's numbers, texts and times whose results are no larger than their arguments, or grow as GROWTH
# gives.
# Not here: functions that make or take lists, structs, maps, bits and blobs, or read their arguments as code or as a
# path.
_NUMBERS = """
+ - * / // % ** ^ & | ~ << >> ! !__postfix @ add subtract multiply divide mod pow power xor fdiv fmod decimal_division
abs sign signbit ceil ceiling floor round round_even roundbankers trunc even sqrt cbrt exp ln log log2 log10 factorial gamma
lgamma degrees radians pi sin cos tan cot asin acos atan atan2 sinh cosh tanh asinh acosh atanh gcd lcm
greatest_common_divisor least_common_multiple greatest least isnan isinf isfinite nextafter bit_count nullif if
__between __cast constant_or_null
"""
_TEXTS = """
|| ~~ !~~ ~~* !~~* ~~~ ^@ like_escape not_like_escape ilike_escape not_ilike_escape concat concat_ws length len strlen
char_length character_length length_grapheme octet_length bit_length upper lower ucase lcase trim ltrim rtrim left right
left_grapheme right_grapheme substr substring substring_grapheme replace translate reverse repeat lpad rpad contains
starts_with ends_with prefix suffix instr position strpos split_part ascii ord unicode chr strip_accents nfc_normalize
overlay regexp_matches regexp_full_match regexp_extract regexp_replace regexp_escape format printf hash md5 sha1 sha256
hex to_hex bin to_binary url_encode url_decode levenshtein hamming mismatches jaccard jaro_similarity
jaro_winkler_similarity formatReadableSize formatReadableDecimalSize format_bytes parse_filename parse_dirname parse_dirpath
json_valid json_type json_array_length json_extract_string json_extract_path_text json_value json_exists ->>
"""
_TIMES = """
year quarter month week weekofyear day hour minute second millisecond microsecond nanosecond decade century millennium era
dayofmonth dayofweek dayofyear weekday isodow isoyear yearweek dayname monthname last_day days_in_month julian epoch epoch_ms
epoch_us epoch_ns date_part datepart date_trunc datetrunc date_diff datediff date_sub datesub date_add age time_bucket
timezone timezone_hour timezone_minute make_date make_time make_timestamp make_timestamp_ms make_timestamp_ns
make_timestamptz to_timestamp strftime strptime try_strptime normalized_interval to_years to_months to_weeks to_days to_hours
to_minutes to_seconds to_milliseconds to_microseconds to_quarters to_decades to_centuries to_millennia
"""
ALLOWED = frozenset(" ".join((_NUMBERS, _TEXTS, _TIMES)).split()) | {
    "IS DISTINCT FROM", "IS NOT DISTINCT FROM",
}  # fmt: skip
_TYPE_NAMES = """
boolean bool logical tinyint int1 smallint int2 short integer int int4 signed bigint int8 long hugeint utinyint usmallint
uinteger ubigint uhugeint float float4 real double float8 decimal numeric dec varchar char bpchar text string date time
timestamp datetime timestamp_s timestamp_ms timestamp_us timestamp_ns timestamptz timetz interval uuid
"""
_TYPES = frozenset(_TYPE_NAMES.split()) | {
    f"{kind} {zone} time zone" for kind in ("time", "timestamp") for zone in ("with", "without")
}
_NO_TEXT = frozenset({"COMPARISON", "CONJUNCTION", "BETWEEN", "TYPE"})
_OPERATORS = frozenset(
    {"OPERATOR_COALESCE", "OPERATOR_TRY", "ARRAY_EXTRACT", "ARRAY_SLICE"}
)  # operators that may return texts
_SUMS = frozenset({"||", "concat", "overlay"})


@dataclass(frozen=True)
class Bound:
    """Bytes of text: at most times * (bytes of the row's texts) + plus."""

    times: float
    plus: float

    def __mul__(self, factor: float) -> "Bound":
        return Bound(self.times * factor, self.plus * factor)

    def __add__(self, other: "Bound") -> "Bound":
        return Bound(self.times + other.times, self.plus + other.plus)

    def __or__(self, other: "Bound") -> "Bound":
        return Bound(max(self.times, other.times), max(self.plus, other.plus))


NOTHING = Bound(0, 0)
VALUE = Bound(0, VALUE_NBYTES)
COLUMN = Bound(1, VALUE_NBYTES)


def check_text(field: str, text: str) -> None:
    """JobError for an expression that is longer than any written by hand."""
    if len(text) > LONGEST_TEXT:
        raise JobError(f"{field}: {len(text):,} characters; at most {LONGEST_TEXT:,}")


def nodes(field: str, root: Any) -> list[tuple[Any, list[int]]]:
    """The nodes of a tree, each with the places of its children, which come after it; JobError where the tree is too
    deep.
    """
    found: list[tuple[Any, list[int]]] = []
    pending: list[tuple[Any, int, int]] = [(root, -1, 0)]  # (part of the tree, the place of the node above, depth)
    while pending:
        part, above, depth = pending.pop()
        if isinstance(part, list):
            pending += [(item, above, depth) for item in reversed(part)]
        elif isinstance(part, dict):
            if "class" in part:
                if depth >= MOST_DEPTH:
                    raise JobError(f"{field}: {TOO_DEEP}")
                found.append((part, []))
                if above >= 0:
                    found[above][1].append(len(found) - 1)
                above, depth = len(found) - 1, depth + 1
            pending += [(item, above, depth) for item in reversed([*part.values()])]
    return found


def bounds_of(field: str, tree: Sequence[tuple[Any, list[int]]]) -> tuple[Bound, Bound]:
    """(the largest text that any node of the tree may make, the texts of all its nodes together).

    JobError where constants alone become too long.
    """
    bounds = [NOTHING] * len(tree)
    largest = total = NOTHING
    for place in reversed(range(len(tree))):
        node, children = tree[place]
        bounds[place] = bound = _bound(field, node, [(tree[child][0], bounds[child]) for child in children])
        largest |= bound
        if node["class"] not in ("CONSTANT", "COLUMN_REF") and bound != VALUE:
            total += bound
        if bound.plus > MOST_PLUS:
            raise JobError(
                f"{field}: constants in it can become {bound.plus:,.0f} bytes of text, at most {MOST_PLUS:,}: shorten them"
            )
    if total.times > MOST_TIMES:
        raise JobError(
            f"{field}: its texts together can become {total.times:,.0f} times as long as a row's, at most {MOST_TIMES:,}: "
            "make parts of it columns of their own in data.derive"
        )
    return largest, total


def check_type(field: str, node: Any, known: frozenset[str]) -> None:
    """JobError for a cast to lists, bits and other types that are no plain value; unknown names are DuckDB's to refuse."""
    name = str(node.get("type_name", "")).lower()
    if name in known | {"array", "list", "struct", "map", "union", "enum"} and name not in _TYPES:
        raise JobError(f"{field}: the type {name} is refused: only numbers, texts, truth values, dates and times")


def _bound(field: str, node: Any, children: Sequence[tuple[Any, Bound]]) -> Bound:
    kind = node["class"]
    if kind == "COLUMN_REF":
        return COLUMN
    if kind == "CONSTANT":
        text = _constant(node)
        return VALUE if text is None else Bound(0, len(text.encode()))
    if kind in _NO_TEXT or (kind == "OPERATOR" and node["type"] not in _OPERATORS):
        return VALUE
    if kind == "FUNCTION":
        return _function(field, node, children)
    return _longest(children) | VALUE


def _function(field: str, node: Any, children: Sequence[tuple[Any, Bound]]) -> Bound:
    name = node["function_name"]
    if name in GROWTH:
        return GROWTH[name](f"{field}: {name}", children) | VALUE
    if name in _SUMS:
        return sum((bound for _, bound in children), NOTHING)
    return _longest(children) | VALUE


def _longest(children: Sequence[tuple[Any, Bound]]) -> Bound:
    longest = NOTHING
    for _, bound in children:
        longest |= bound
    return longest


def _constant(node: Any) -> str | None:
    """The text of a constant; None for any other node."""
    literal = node.get("literal") or {}
    return str(literal["text"]) if node["class"] == "CONSTANT" and literal.get("kind") == "STRING" else None


def _count(where: str, node: Any) -> int:
    """A constant number of characters or times."""
    literal = node.get("literal") or {}
    text = str(literal.get("text", ""))
    if literal.get("kind") != "INTEGER" or not re.fullmatch(r"-?\d{1,18}", text):
        raise JobError(f"{where}: how many has to be a whole number, written there")
    if int(text) > MOST_COUNT:
        raise JobError(f"{where}: {int(text):,} is more than {MOST_COUNT:,}, the most that it may make of one text")
    return max(0, int(text))


def _ws(where: str, children: Sequence[tuple[Any, Bound]]) -> Bound:
    return sum((bound for _, bound in children[1:]), NOTHING) + children[0][1] * max(0, len(children) - 2)


def _repeat(where: str, children: Sequence[tuple[Any, Bound]]) -> Bound:
    return children[0][1] * _count(where, children[1][0]) if len(children) == 2 else NOTHING


def _pad(where: str, children: Sequence[tuple[Any, Bound]]) -> Bound:
    """No longer than so many characters, of 4 bytes at most."""
    return Bound(0, 4 * _count(where, children[1][0])) if len(children) == 3 else NOTHING


def _replacement(where: str, children: Sequence[tuple[Any, Bound]]) -> int:
    text = _constant(children[2][0])
    if text is None:
        raise JobError(f"{where}: the replacement has to be a text, written there")
    return len(text.encode())


def _replace(where: str, children: Sequence[tuple[Any, Bound]]) -> Bound:
    if len(children) != 3:
        return NOTHING  # DuckDB says so
    sought = len((_constant(children[1][0]) or "x").encode()) or 1
    return children[0][1] * max(1.0, _replacement(where, children) / sought)


def _regexp_replace(where: str, children: Sequence[tuple[Any, Bound]]) -> Bound:
    r"""Between any two characters there may be a match; \1 repeats at most what was matched."""
    if len(children) < 3:
        return NOTHING
    nbytes = _replacement(where, children)
    groups = str(_constant(children[2][0])).count("\\")
    return children[0][1] * (1 + nbytes + groups) + Bound(0, nbytes)


def _format(where: str, children: Sequence[tuple[Any, Bound]]) -> Bound:
    form = _constant(children[0][0]) if children else ""
    if form is None:
        raise JobError(f"{where}: the format has to be a text, written there")
    if "*" in form or re.search(r"\{[^{}]*\{", form.replace("{{", "")):
        raise JobError(f"{where}: the width has to be a number, written there")
    widths = [int(digits) if len(digits) < 18 else 10**18 for digits in re.findall(r"\d+", form)]
    if widths and max(widths) > MOST_COUNT:
        raise JobError(f"{where}: {max(widths):,} is more than {MOST_COUNT:,}, the most that it may make of one text")
    one = _longest(children[1:]) | Bound(0, 2 * max(widths, default=0) + 320)  # a double has up to 309 digits
    return one * (form.count("%") + form.count("{")) + children[0][1]


def _json(where: str, children: Sequence[tuple[Any, Bound]]) -> Bound:
    path = children[1][0] if len(children) == 2 else {"class": ""}
    if path["class"] != "CONSTANT" or "*" in (_constant(path) or ""):
        raise JobError(f"{where}: the path has to be written there, without *")
    return children[0][1]


def _times(factor: float) -> Callable[[str, Sequence[tuple[Any, Bound]]], Bound]:
    return lambda where, children: _longest(children) * factor


def _same(where: str, children: Sequence[tuple[Any, Bound]]) -> Bound:
    return VALUE


def _no_constants(where: str, children: Sequence[tuple[Any, Bound]]) -> Bound:
    """Takes the product of its arguments' lengths: not while constants are folded, which cannot be interrupted."""
    if not any(bound.times for _, bound in children):
        raise JobError(f"{where}: needs a column among its arguments")
    return VALUE


GROWTH: Mapping[str, Callable[[str, Sequence[tuple[Any, Bound]]], Bound]] = {
    **dict.fromkeys(("json_extract_string", "json_extract_path_text", "json_value", "json_exists", "->>"), _json),
    "concat_ws": _ws, "repeat": _repeat, "lpad": _pad, "rpad": _pad, "replace": _replace,
    "regexp_replace": _regexp_replace, "format": _format, "printf": _format, "translate": _times(4), "strftime": _times(24),
    **dict.fromkeys(("upper", "lower", "ucase", "lcase", "nfc_normalize", "strip_accents", "url_encode"), _times(_UP)),
    **dict.fromkeys(("hex", "to_hex", "regexp_escape"), _times(2)), **dict.fromkeys(("bin", "to_binary"), _times(8)),
    **dict.fromkeys(("md5", "sha1", "sha256"), lambda where, children: Bound(0, 64)),
    **dict.fromkeys(("length", "strlen", "contains", "starts_with", "ends_with", "regexp_matches", "instr"), _same),
    **dict.fromkeys(("levenshtein", "jaro_similarity", "jaro_winkler_similarity", "hamming", "mismatches"), _no_constants),
}  # fmt: skip
