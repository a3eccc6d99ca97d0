"""The type that a column of points has in a file, where its tiles differ.

A type is common to several if it holds all their values exactly: shorter numbers go in longer
ones, and floats that are all whole numbers in integers.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from batuta.datasets.conversion import exact_limit

DataType: TypeAlias = Any
"""A `pyarrow.DataType`: pyarrow ships no types."""

EXACT_IN_FLOAT: Final = exact_limit(np.float64)
"""Up to this whole number, all are exact in a float64."""

NS_PER: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Nanoseconds per unit of times and durations."""


@dataclass(frozen=True)
class Span:
    """The values of a column, as far as they decide on its type.

    Parameters
    ----------
    low, high : int or None
        Bounds of whole numbers, of whatever type; of times and durations, in nanoseconds. None
        if there are none.
    fractions : bool
        Whether there are floats that are not whole numbers, or too large to be exact ones.
    """

    low: int | None = None
    high: int | None = None
    fractions: bool = False

    def __or__(self, other: "Span") -> "Span":
        """Return the span of both."""
        lows = [each.low for each in (self, other) if each.low is not None]
        highs = [each.high for each in (self, other) if each.high is not None]
        return Span(
            min(lows, default=None), max(highs, default=None), self.fractions or other.fractions
        )

    def is_within(self, low: int, high: int) -> bool:
        """Return whether all whole numbers are in a range, bounds included."""
        return self.low is None or self.high is None or (low <= self.low and self.high <= high)

    @property
    def exact_in_float(self) -> bool:
        """Whether a float64 holds all whole numbers exactly."""
        return self.is_within(-EXACT_IN_FLOAT, EXACT_IN_FLOAT)


def common_type(types: Collection[DataType], span: Span) -> DataType | None:
    """Return the type that holds the values of all types exactly; None if there is none.

    Parameters
    ----------
    types : collection of DataType
        At least one, in any order.
    span : Span
        The values of all of them.
    """
    plain = {_without_order(each) for each in types}
    if len(plain) == 1:
        return plain.pop()
    plain = {each.value_type if pa.types.is_dictionary(each) else each for each in plain}
    for is_kind, merge in _MERGES:
        if all(map(is_kind, plain)):
            return merge(plain, span)
    return reduce(_common_but_for_nulls, sorted(plain, key=str))


def _without_order(kind: DataType) -> DataType:
    """Return a dictionary type without the order of its categories, which Parquet drops.

    Its indices are as long as those of the categories of all tiles together need to be.
    """
    return pa.dictionary(pa.int32(), kind.value_type) if pa.types.is_dictionary(kind) else kind


def is_number(kind: DataType) -> bool:
    """Return whether a type is of integers or floats."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _common_number(types: Iterable[DataType], span: Span) -> DataType | None:
    whole = [each for each in types if pa.types.is_integer(each)]
    if not whole:
        return max(types, key=lambda each: int(each.bit_width))
    if span.fractions:
        return pa.float64() if span.exact_in_float else None
    widest = np.result_type(*(each.to_pandas_dtype() for each in whole))
    # Of uint64 with another: NumPy would have float64, the values decide.
    candidates = [widest] if widest.kind in "iu" else []
    for each in (*candidates, np.dtype(np.int64), np.dtype(np.uint64)):
        if span.is_within(int(np.iinfo(each).min), int(np.iinfo(each).max)):
            return pa.from_numpy_dtype(each)
    return None


def _common_time(types: Iterable[DataType], span: Span) -> DataType | None:
    kinds = list(types)
    if len({getattr(each, "tz", None) for each in kinds}) > 1:
        return None
    finest = min(kinds, key=lambda each: NS_PER[each.unit])
    limit = (2**63 - 1) * NS_PER[finest.unit]
    return finest if span.is_within(-limit, limit) else None


def _promoted(types: Iterable[DataType], span: Span) -> DataType | None:  # noqa: ARG001 - as the others
    schemas = [pa.schema([("column", each)]) for each in sorted(types, key=str)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def is_text(kind: DataType) -> bool:
    """Return whether a type is of strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


_MERGES: Final[
    tuple[
        tuple[Callable[[DataType], bool], Callable[[Collection[DataType], Span], DataType | None]],
        ...,
    ]
] = (
    (is_number, _common_number),
    (pa.types.is_timestamp, _common_time),
    (pa.types.is_duration, _common_time),
    (pa.types.is_time, _promoted),
    (pa.types.is_decimal, _promoted),
    (is_text, _promoted),
)
"""By kind of type, how types of that kind are merged. Types of two kinds have none in common."""


def _common_but_for_nulls(one: DataType | None, other: DataType | None) -> DataType | None:
    """Return the type that has both, where they differ in parts that have no value at all."""
    if one is None or other is None or one == other:
        return one if one == other else None
    if pa.types.is_null(one) or pa.types.is_null(other):
        return other if pa.types.is_null(one) else one
    if pa.types.is_list(one) and pa.types.is_list(other):
        inner = _common_but_for_nulls(one.value_type, other.value_type)
        return None if inner is None else pa.list_(inner)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _common_struct(one, other)
    return None


def _common_struct(one: DataType, other: DataType) -> DataType | None:
    if [field.name for field in one] != [field.name for field in other]:
        return None
    merged = [
        (left.name, _common_but_for_nulls(left.type, right.type))
        for left, right in zip(one, other, strict=True)
    ]
    return None if any(kind is None for _, kind in merged) else pa.struct(merged)
