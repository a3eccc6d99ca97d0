"""The conductor's lists: what each selects, and in which order."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.schema import LISTED, STALE, observations
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.summaries import Counts
from batuta.service.listing import Key, Listing, equals_unindexed


class ObservationOrder(StrEnum):
    """In which order observations are listed."""

    OBS_ID = "obs_id"
    NEWEST = "newest"
    """Those first that were heard of last."""


def list_observations(order: ObservationOrder) -> Listing:
    """List observations with available products."""
    query = sa.select(observations)
    if order is ObservationOrder.OBS_ID:
        return Listing(query=query, key=[observations.c.obs_id])
    key = [observations.c.last_news, observations.c.obs_id]
    return Listing(query=query, key=key, descending=True)


def list_processings(
    filters: Mapping[str, str],
    counts: Counts,
    since: float | None = None,
    until: float | None = None,
    *,
    stale: bool = False,
) -> Listing:
    """List processings, the newest first.

    Parameters
    ----------
    filters : mapping
        Values, or patterns, by the names of columns.
    counts : Counts
        How many there are: the filter that the fewest pass selects, the others check.
    since, until : float or None
        When they were claimed, in seconds since 1970; `until` is excluded.
    stale : bool
        Whether only those are listed whose product is available, and stale.
    """
    exact = {
        name: value
        for name, value in filters.items()
        if name in _INDEXED and not _is_pattern(value)
    }
    first = _most_selective(exact, counts)
    times = [] if since is None else [table.c.created >= since]
    times += [] if until is None else [table.c.created < until]
    selected: list[sa.ColumnElement[bool] | sa.TextClause] = []
    if first is not None:
        selected = [sa.text(LISTED), table.c[first] == exact[first]]
    if stale:
        # The index of what is stale holds no more than that, in this order.
        first, selected = None, [sa.text(STALE)]
    return Listing(
        query=sa.select(table),
        key=[table.c.created, table.c.id],
        descending=True,
        selected=[*selected, *times],
        checked=[matches(table.c[name], value) for name, value in filters.items() if name != first],
    )


_INDEXED: Final = frozenset({"state", "product", "obs_id", "provider"})


def _most_selective(exact: Mapping[str, str], counts: Counts) -> str | None:
    if "obs_id" in exact:
        return "obs_id"  # one has as many processings as the graph has products, or a few times so
    return min(exact, key=lambda name: counts.passing({name: exact[name]}), default=None)


def encode_key(key: Key | None) -> str | None:
    """Return the cursor of a key: a time, and what is unique."""
    return None if key is None else f"{key[0]!r}_{key[1]}"


def decode_key(cursor: str | None) -> Key | None:
    """Return the key of a cursor.

    Raises
    ------
    ValueError
        If it is none.
    """
    if cursor is None:
        return None
    seconds, _, unique = cursor.partition("_")
    return float(seconds), unique


def _is_pattern(value: str) -> bool:
    return not _WILDCARDS.isdisjoint(value)


def matches(column: "sa.Column[Any]", pattern: str) -> "sa.ColumnElement[bool]":
    """Return the condition that a column is like a pattern: ``*`` any text, ``?`` any letter."""
    if not _is_pattern(pattern):
        return equals_unindexed(column, pattern)
    # Not LIKE, which ignores case in SQLite, and of which "_" is a wildcard.
    letters = {"*": ".*", "?": "."}
    return column.regexp_match("^" + "".join(letters.get(c, re.escape(c)) for c in pattern) + "$")


_WILDCARDS: Final = frozenset("*?")
