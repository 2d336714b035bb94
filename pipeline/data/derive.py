"""New columns and a row filter as SQL expressions, evaluated on each fragment by a locked-down DuckDB."""

from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True)
class Derivation:
    """What the user wants made of the raw columns."""

    derive: tuple[tuple[str, str], ...] = ()  # (name, SQL expression of a row's columns)
    where: str | None = None  # SQL condition: the rows that train and evaluate
    function: str | None = None  # module:name of a pure pa.Table -> pa.Table, applied first
    allow_code: bool = False  # the user said --allow-code: without it `function` is refused


@dataclass(frozen=True)
class Derived:
    """The columns there are after the derivation, and what they are made of."""

    schema: pa.Schema
    inputs: dict[str, frozenset[str]] = field(default_factory=dict)  # derived -> raw columns, transitively
    uses: dict[str, frozenset[str]] = field(default_factory=dict)  # derived -> raw and derived columns, transitively
    where: frozenset[str] = frozenset()  # raw columns that `where` needs
