"""The conductor's lists: what each selects, and in which order."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, TypeGuard, cast

import sqlalchemy as sa

from batuta.conductor.database.schema import LISTED, LISTED_BY, STALE, available, observations
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.summaries import Counts
from batuta.service.listing import Key, Listing, equals_unindexed
from batuta.stages import Stage, rank_of


class ObservationOrder(StrEnum):
    """In which order observations are listed."""

    OBS_ID = "obs_id"
    NEWEST = "newest"
    """Those first that were heard of last."""


def list_observations(order: ObservationOrder, stage: Stage | None = None) -> Listing:
    """List observations with available products; with `stage`, any of which was told to be so."""
    query = sa.select(observations)
    checked = []
    if stage is not None:
        of_stage = sa.select(available.c.product).where(
            available.c.obs_id == observations.c.obs_id, available.c.stage == rank_of(stage)
        )
        checked = [of_stage.exists()]
    if order is ObservationOrder.OBS_ID:
        return Listing(query=query, key=[observations.c.obs_id], checked=checked)
    key = [observations.c.last_news, observations.c.obs_id]
    return Listing(query=query, key=key, descending=True, checked=checked)


Filter = str | int
"""A value, or a pattern of text."""


def list_processings(
    filters: Mapping[str, Filter],
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
        Values, or patterns, by the names of columns; a ``stage`` as `batuta.stages.Stage`.
    counts : Counts
        How many there are: the filter that the fewest pass selects, the others check.
    since, until : float or None
        When they were claimed, in seconds since 1970; `until` is excluded.
    stale : bool
        Whether only those are listed whose product is available, and stale.
    """
    if "stage" in filters:
        filters = {**filters, "stage": rank_of(cast("Stage", filters["stage"]))}
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
        listed = [sa.text(LISTED)] if LISTED_BY.get(first, LISTED) == LISTED else []
        selected = [*listed, table.c[first] == exact[first]]
    if stale:
        # The index of what is stale holds no more than that, in this order.
        first, selected = None, [sa.text(STALE)]
    return Listing(
        query=sa.select(table),
        key=[table.c.created, table.c.id],
        descending=True,
        selected=[*selected, *times],
        checked=[_check(name, value) for name, value in filters.items() if name != first],
    )


def _check(name: str, value: Filter) -> "sa.ColumnElement[bool]":
    # The text of an error may have a `*` or a `?` of its own.
    exact = name == "error_kind"
    return equals_unindexed(table.c[name], value) if exact else matches(table.c[name], value)


_INDEXED: Final = frozenset({"obs_id", *LISTED_BY})
_UNCOUNTED: Final = {"campaign": 5_000, "stage": 5_000, "work_class": 100_000}
"""What is not counted selects, unless what is counted passes fewer than so many."""


def _most_selective(exact: Mapping[str, Filter], counts: Counts) -> str | None:
    if "obs_id" in exact:
        return "obs_id"  # one has as many processings as the graph has products, or a few times so
    passing = {
        name: counts.passing({name: str(value)})
        for name, value in exact.items()
        if name not in _UNCOUNTED
    }
    fewest = min(passing, key=lambda name: passing[name], default=None)
    for name, few in _UNCOUNTED.items():
        if name in exact and (fewest is None or passing[fewest] >= few):
            return name
    return fewest


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


def _is_pattern(value: Filter) -> TypeGuard[str]:
    return isinstance(value, str) and not _WILDCARDS.isdisjoint(value)


def matches(column: "sa.Column[Any]", pattern: Filter) -> "sa.ColumnElement[bool]":
    """Return the condition that a column is like a pattern: ``*`` any text, ``?`` any letter."""
    if not _is_pattern(pattern):
        return equals_unindexed(column, pattern)
    # Not LIKE, which ignores case in SQLite, and of which "_" is a wildcard.
    letters = {"*": ".*", "?": "."}
    return column.regexp_match("^" + "".join(letters.get(c, re.escape(c)) for c in pattern) + "$")


_WILDCARDS: Final = frozenset("*?")
