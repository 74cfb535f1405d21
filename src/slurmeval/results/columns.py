"""Columns of tables, a row group at a time: texts that Arrow refuses are cleaned, scores are records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import orjson
import pyarrow as pa

from slurmeval.results import schema

if TYPE_CHECKING:
    from slurmeval.harnesses.base import Score

ROWS_PER_GROUP = 5000
BYTES_PER_GROUP = 32 << 20
"""Greatest size of a row group, and of the long texts gone through at once: each may have a megabyte."""
ROWS_AT_ONCE = 1000
"""Rows that are turned into columns at once: until then, what they came from is held."""
_of_score = attrgetter("metric", "filter", "value", "correct", "answer", "explanation")
T = TypeVar("T")
Columns = Mapping[str, Sequence[Any] | pa.Array]
"""Values by the name of their column, all equally many."""


def groups(
    items: Iterable[T], size_of: Callable[[T], int] = lambda item: 0, rows: int = ROWS_AT_ONCE
) -> Iterator[list[T]]:
    """Yields the next items again and again: at most `rows`, and about BYTES_PER_GROUP by `size_of`."""
    group: list[T] = []
    size = 0
    for item in items:
        group.append(item)
        size += size_of(item)
        if len(group) == rows or size >= BYTES_PER_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def of_rows(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Returns rows by column; what a row leaves out is null."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def table(columns: Columns, key: Mapping[str, str], of: schema.Table) -> pa.Table:
    """Returns columns as a table, with `key` in all its rows; a column left out is null.

    Raises SchemaDrift on a column that `of` does not have.
    """
    if unknown := columns.keys() - of.names:
        raise schema.SchemaDrift(f"{of.name} has no column {min(unknown)}")
    n_rows = len(next(iter(columns.values())))
    arrays = [
        array(columns[field.name], field.type)
        if field.name in columns
        else pa.repeat(pa.scalar(key.get(field.name), field.type), n_rows)
        for field in of.schema
    ]
    return pa.Table.from_arrays(arrays, schema=of.schema)


def array(values: Sequence[Any] | pa.Array, kind: pa.DataType) -> pa.Array:
    """Returns values as Arrow.

    Models answer with lone surrogates, and harnesses with structures in place of text: then each text of
    the column is cleaned.
    """
    if isinstance(values, pa.Array):
        return values
    try:
        return pa.array(values, kind)
    except (UnicodeEncodeError, pa.ArrowTypeError):
        return pa.array([_cleaned(value, kind) for value in values], kind)


def scores(of_samples: Sequence[Sequence[Score]]) -> pa.Array:
    """Returns the column `scores`: for each sample a list of records."""
    kind = schema.SAMPLES.schema.field("scores").type
    every = list(map(_of_score, chain.from_iterable(of_samples)))
    values = zip(*every, strict=True) if every else [()] * kind.value_type.num_fields
    parts = [array(found, part.type) for found, part in zip(values, kind.value_type, strict=True)]
    ends = accumulate(map(len, of_samples), initial=0)
    records = pa.StructArray.from_arrays(parts, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), records, type=kind)


def hexadecimal(hashes: bytes, size: int) -> pa.Array:
    """Returns hashes of `size` bytes each, one behind another, as texts."""
    ends = np.arange(0, 2 * len(hashes) + 1, 2 * size, dtype=np.int32)
    return pa.StringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(hashes.hex().encode()))


def times(seconds: Sequence[float]) -> pa.Array:
    """Returns times, of seconds since 1970."""
    return pa.array(np.rint(np.array(seconds) * 1e6).astype(np.int64)).cast(pa.timestamp("us", "UTC"))


def json_text(value: Any) -> str:
    """Returns JSON with sorted keys; what orjson refuses (lone surrogates, huge numbers) as Python does."""
    try:
        return orjson.dumps(value, str, orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
        return text.encode("utf-8", "replace").decode()


def _cleaned(value: Any, kind: pa.DataType) -> Any:
    """Returns a value with texts that Arrow can hold: structures as JSON, lone surrogates replaced."""
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [_cleaned(one, kind.value_type) for one in value]
    if pa.types.is_struct(kind):
        return {field.name: _cleaned(value[field.name], field.type) for field in kind}
    if pa.types.is_string(kind):
        text = value if isinstance(value, str) else json_text(value)
        return text.encode("utf-8", "replace").decode()
    return value
