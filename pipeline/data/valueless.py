"""Columns whose type is not that of training, but that hold no value: they are missing, whatever their type.

pandas writes a column of texts without any value as numbers that are all NaN.
"""

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from pipeline.data.reading import read_fragment
from pipeline.data.schema.schema_merge import no_value, normalise
from pipeline.data.source import Source
from pipeline.errors import BadFragment


def with_types(source: Source, types: Mapping[str, pa.DataType]) -> Source:
    """The source with the named columns read as these types, those of them that hold no value in any row.

    Each is read up to its first value.  Partitions of Dask collections are not computed for it.
    """
    if source.format == "dask":
        return source
    schema = source.schema
    for name, kind in types.items():
        known = normalise(kind)
        if known is not None and _is_empty(source, name):
            schema = schema.set(schema.get_field_index(name), pa.field(name, known))
    return source if schema is source.schema else replace(source, schema=schema)


def _is_empty(source: Source, name: str) -> bool:
    rows = 0
    for fragment in source.fragments:
        try:
            table = read_fragment(source, fragment, [name], source.payload(fragment))
        except BadFragment:
            if source.skip_bad:
                continue
            raise
        if not no_value(table.column(0)):
            return False
        rows += table.num_rows
    return rows > 0
