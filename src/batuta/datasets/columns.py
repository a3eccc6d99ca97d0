"""The columns of tiles of points, and of the file that they go to together."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batuta.datasets.column_types import NS_PER, DataType, Span, common_type, is_number, is_text
from batuta.datasets.conversion import exact_limit
from batuta.datasets.errors import TileError

Table: TypeAlias = Any
"""A `pyarrow.Table`: pyarrow ships no types."""

Place = tuple[int, int]

_FACTS_KEY: Final = b"batuta:columns"
_SAMPLE: Final = 256
"""Floats looked at first: most columns show there that they are not of whole numbers."""


@dataclass(frozen=True)
class Column:
    """A column of one or several tiles.

    Parameters
    ----------
    types : mapping of DataType to (row, col)
        The types of tiles in which it has values, each with such a tile.
    empty_types : tuple of DataType
        The types of tiles in which it has none: they decide only where no tile has any.
    missing : bool
        Whether some points have no value.
    span : Span
        Its values.
    """

    types: Mapping[DataType, Place]
    empty_types: tuple[DataType, ...] = ()
    missing: bool = False
    span: Span = field(default_factory=Span)

    def __or__(self, other: "Column") -> "Column":
        """Return the column of the tiles of both."""
        return Column(
            {**other.types, **self.types},
            tuple(dict.fromkeys((*self.empty_types, *other.empty_types))),
            self.missing or other.missing,
            self.span | other.span,
        )

    @cached_property
    def type(self) -> DataType | None:
        """The type that holds the values of all tiles exactly; None if there is none."""
        if self.types:
            return common_type(self.types, self.span)
        return common_type(self.empty_types, Span()) or pa.null()


@dataclass(frozen=True)
class Columns:
    """The columns of one or several tiles.

    Parameters
    ----------
    by_name : mapping of str to Column
        The columns, in the order of their first tile.
    has_points : bool
        Whether there is any point.
    """

    by_name: Mapping[str, Column] = field(default_factory=dict)
    has_points: bool = False

    def __or__(self, other: "Columns") -> "Columns":
        """Return the columns of the tiles of both; a column that a tile lacks is missing there."""
        names = dict.fromkeys((*self.by_name, *other.by_name))
        merged = {name: self._of(name) | other._of(name) for name in names}
        return Columns(merged, self.has_points or other.has_points)

    def _of(self, name: str) -> Column:
        return self.by_name.get(name) or Column({}, missing=self.has_points)

    @cached_property
    def schema(self) -> Any:
        """The columns and their types in a file.

        Raises
        ------
        TileError
            Naming the column whose tiles have no type in common.
        """
        for name, column in self.by_name.items():
            if column.type is None:
                found = (f"{_label(kind)} in tile {[*at]}" for kind, at in column.types.items())
                raise TileError(f"{name}: no type holds the values of {' and '.join(found)}")
        return pa.schema([(name, column.type) for name, column in self.by_name.items()])

    def with_tile(self, tile: "Columns") -> "Columns":
        """Return the columns with those of one more tile.

        Raises
        ------
        TileError
            If no type holds both the values of the tile and those of the others, with the column,
            the types and where they are from.
        """
        merged = self | tile
        for name, column in merged.by_name.items():
            if column.type is None:
                raise TileError(_conflict(name, tile.by_name[name], self.by_name[name]))
        return merged


def _conflict(name: str, given: Column, others: Column) -> str:
    found = [f"{_label(kind)} in tile {[*at]}" for kind, at in others.types.items()]
    reason = ""
    if all(map(is_number, (*given.types, *others.types))):
        reason = "; no type holds the numbers of both exactly"
    return f"{name}: {_label(next(iter(given.types)))} given, {' and '.join(found)}{reason}"


def _label(kind: DataType) -> str:
    if is_number(kind):
        return str(np.dtype(kind.to_pandas_dtype()))  # float64, which Arrow calls double
    return "text" if is_text(kind) else str(kind)


def columns_of(table: Table, place: Place) -> Columns:
    """Return the columns of a tile, at `place` in the grid."""
    names, columns = table.column_names, table.columns
    found = {name: _column_of(values, place) for name, values in zip(names, columns, strict=True)}
    return Columns(found, bool(table.num_rows))


def _column_of(values: Any, place: Place) -> Column:
    missing = bool(values.null_count)
    if values.null_count == len(values):
        return Column({}, (values.type,), missing)
    return Column({values.type: place}, (), missing, _span_of(values))


def _span_of(values: Any) -> Span:
    kind = values.type
    if pa.types.is_dictionary(kind) and not is_text(kind.value_type):
        return _span_of(values.cast(kind.value_type))
    if pa.types.is_integer(kind):
        return Span(*_bounds(values))
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        low, high = _bounds(values.cast(pa.int64()))
        return Span(low * NS_PER[kind.unit], high * NS_PER[kind.unit])
    if pa.types.is_floating(kind):
        return _span_of_floats(values.drop_null().to_numpy())
    return Span()


def _bounds(values: Any) -> tuple[int, int]:
    found = pc.min_max(values).as_py()
    return found["min"], found["max"]


def _span_of_floats(values: npt.NDArray[np.floating[Any]]) -> Span:
    limit = exact_limit(values.dtype)
    if not (_are_whole(values[:_SAMPLE], limit) and _are_whole(values, limit)):
        return Span(fractions=True)
    return Span(int(values.min()), int(values.max()))


def _are_whole(values: npt.NDArray[np.floating[Any]], limit: int) -> bool:
    return bool((np.abs(values) <= limit).all() and (np.rint(values) == values).all())


def facts_of(columns: Columns) -> dict[bytes, bytes]:
    """Return what a part keeps of its columns beside their types, as metadata of its schema."""
    facts = {
        name: [bool(each.types), each.missing, each.span.low, each.span.high, each.span.fractions]
        for name, each in columns.by_name.items()
    }
    return {_FACTS_KEY: json.dumps(facts).encode()}


def columns_in(part: Path, place: Place, without: str) -> Columns:
    """Return the columns of a part, but the one named `without`."""
    metadata = pq.read_metadata(part)
    schema = metadata.schema.to_arrow_schema()
    stored = (schema.metadata or {}).get(_FACTS_KEY)
    if stored is None:  # of an earlier version of Batuta
        table = pq.read_table(part)
        return columns_of(table.select([n for n in table.column_names if n != without]), place)
    facts = json.loads(stored)
    found: dict[str, Column] = {}
    for each in schema:
        if each.name == without:
            continue
        valued, missing, low, high, fractions = facts[each.name]
        types = {each.type: place} if valued else {}
        empty = () if valued else (each.type,)
        found[each.name] = Column(types, empty, missing, Span(low, high, fractions))
    return Columns(found, bool(metadata.num_rows))


def pandas_metadata(columns: Columns) -> dict[bytes, bytes]:
    """Return the metadata with which pandas reads whole numbers with missing values exactly.

    Without them it makes floats of such columns.
    """
    nullable = {
        name: pd.array([], dtype=_nullable(column.type))
        for name, column in columns.by_name.items()
        if column.missing and pa.types.is_integer(column.type)
    }
    if not nullable:
        return {}
    empty = pa.Table.from_pandas(pd.DataFrame(nullable), preserve_index=False)
    return {b"pandas": empty.schema.metadata[b"pandas"]}


def _nullable(kind: DataType) -> Any:
    name = np.dtype(kind.to_pandas_dtype()).name  # int64: Int64, uint8: UInt8
    return name.replace("uint", "UInt").replace("int", "Int")


def conform(table: Table, schema: Any) -> Table:
    """Return a table with the columns and types of `schema`; columns that it lacks are null."""
    # Looked up once: a table lists its names anew each time, a thousand for each of a thousand.
    given = dict(zip(table.column_names, table.columns, strict=True))
    columns = [
        _cast(given[each.name], each.type)
        if each.name in given
        else pa.nulls(table.num_rows, each.type)
        for each in schema
    ]
    return pa.table(columns, schema=schema)


def _cast(values: Any, kind: DataType) -> Any:
    if values.type == kind:
        return values
    if values.null_count == len(values):
        return pa.nulls(len(values), kind)  # whatever its type was
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_dictionary(kind):
        return values.cast(kind.value_type).dictionary_encode()
    return values.cast(kind)
