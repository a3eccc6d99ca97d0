"""Reading a page of a long list from an index, at a cost that the rest of it cannot raise.

A page continues after the key of the last row of the one before (keyset pagination): rows that are
passed over are not read, and rows that are added meanwhile shift nothing.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

MAX_EXAMINED: Final = 5000
"""Rows that are examined for one page: few of them may belong to it."""

Key = tuple[Any, ...]
"""What a row is ordered by."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The rows of a list, as an index has them in its order.

    Attributes
    ----------
    query : sa.Select
        What is shown of each row.
    key : sequence of columns
        What the list is ordered by; together they are unique.
    descending : bool
        Whether the last key comes first.
    selected : sequence of conditions
        Columns that are equal to a value, and with which an index begins that ends with `key`.
    checked : sequence of conditions
        What besides must hold of a row: at most `MAX_EXAMINED` are examined for a page.
    """

    query: "sa.Select[Any]"
    key: Sequence["sa.ColumnElement[Any]"]
    descending: bool = False
    selected: Sequence["sa.ColumnElement[bool] | sa.TextClause"] = ()
    checked: Sequence["sa.ColumnElement[bool]"] = ()

    def page(
        self, connection: sa.Connection, limit: int, after: Key | None
    ) -> tuple[Sequence["sa.Row[Any]"], Key | None]:
        """Read a page.

        Parameters
        ----------
        connection : sa.Connection
            In a transaction that reads.
        limit : int
            Its rows at most.
        after : tuple or None
            The key of the last row of the page before; None for the first page.

        Returns
        -------
        sequence of rows
            In the order of the list.
        tuple or None
            The key after which the next page begins; None on the last page.
        """
        begin = [] if after is None else [self._compare("after", after)]
        end = self._end(connection, begin) if self.checked else None
        within = [] if end is None else [self._compare("until", end)]
        query = self.query.where(*self.selected, *self.checked, *begin, *within)
        rows = connection.execute(self._ordered(query).limit(limit + 1)).all()
        if len(rows) > limit:
            return rows[:limit], tuple(rows[limit - 1]._mapping[each] for each in self.key)
        return rows, end

    def _end(
        self, connection: sa.Connection, begin: Sequence["sa.ColumnElement[bool]"]
    ) -> Key | None:
        """Return the key of the last row to examine; None if so many are not left."""
        keys = self._ordered(sa.select(*self.key).where(*self.selected, *begin))
        row = connection.execute(keys.limit(1).offset(MAX_EXAMINED - 1)).one_or_none()
        return None if row is None else tuple(row)

    def _ordered(self, query: "sa.Select[Any]") -> "sa.Select[Any]":
        return query.order_by(*(each.desc() if self.descending else each for each in self.key))

    def _compare(self, where: str, key: Key) -> "sa.ColumnElement[bool]":
        # A single column is compared alone: for a row of one, no index is used.
        single = len(self.key) == 1
        mine: Any = self.key[0] if single else sa.tuple_(*self.key)
        other: Any = key[0] if single else sa.tuple_(*key)
        compare = _DESCENDING[where] if self.descending else _ASCENDING[where]
        condition: sa.ColumnElement[bool] = compare(mine, other)
        return condition


def equals_unindexed(column: "sa.Column[Any]", value: str | int) -> "sa.ColumnElement[bool]":
    """Return the condition that a column is `value`, for `Listing.checked`: no index serves it.

    SQLite, which has no statistics, would take an index of it rather than that of the list, and
    sort all that it finds.
    """
    nothing = "" if isinstance(value, str) else -1
    condition: sa.ColumnElement[bool] = sa.func.coalesce(column, nothing) == value
    return condition


_ASCENDING: Final = {"after": operator.gt, "until": operator.le}
_DESCENDING: Final = {"after": operator.lt, "until": operator.ge}
