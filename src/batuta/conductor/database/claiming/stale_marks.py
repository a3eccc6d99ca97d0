"""Marks of what is stale, on the processings that made it; inside a transaction.

Read and written for observations of which a version was replaced or withdrawn, and for no others.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.records import MAX_IN, Row
from batuta.conductor.database.schema import STALE_UNTOLD, available
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.stages import Staged
from batuta.conductor.decisions.staleness import Available, Staleness, staleness_of
from batuta.graph import Graph

TOLD_TOGETHER: Final = 500
"""Marks that one transaction looks after: decisions wait for no more."""


def mark_stale(
    connection: sa.Connection,
    graph: Graph,
    observations: Collection[str],
    now: float,
    staged: Mapping[str, Staged],
) -> dict[str, Staleness]:
    """Mark what is stale of observations, and what is so no more; return what is.

    `staged` is what is known of the stages of those of which any was told.
    """
    names = sorted(observations)
    found: dict[str, Staleness] = {}
    for start in range(0, len(names), MAX_IN):
        some = {"observations": names[start : start + MAX_IN]}
        versions: defaultdict[str, list[Row]] = defaultdict(list)
        for row in connection.execute(_VERSIONS, some):
            versions[row.obs_id].append(row)
        processings: defaultdict[str, list[Row]] = defaultdict(list)
        for row in connection.execute(_PROCESSINGS, some):
            processings[row.obs_id].append(row)
        changes: list[dict[str, Any]] = []
        for obs_id, rows in versions.items():
            inputs = {row.id: row.inputs for row in processings[obs_id]}
            state = {
                row.product: Available(row.version, inputs.get(row.made_by, {})) for row in rows
            }
            found[obs_id] = staleness_of(graph, state, staged.get(obs_id))
            changes += _changes(processings[obs_id], rows, found[obs_id].because, now)
        if changes:
            connection.execute(_MARK, changes)
    return found


def _changes(
    processings: Iterable[Row], versions: Iterable[Row], because: Mapping[str, str], now: float
) -> Iterator[dict[str, Any]]:
    maker_of = {row.product: row.made_by for row in versions}
    for row in processings:
        # Whoever made an older version has made nothing that is available.
        reason = because.get(row.product) if maker_of.get(row.product) == row.id else None
        if reason != row.stale_because:
            since = None if reason is None else (row.stale_since or now)
            told = None if row.stale_since is None or reason is None else row.stale_told
            yield {"of": row.id, "reason": reason, "since": since, "told": told}


def any_untold(connection: sa.Connection) -> bool:
    """Return whether something has become stale that was not told yet."""
    return connection.execute(_ANY_UNTOLD).first() is not None


def take_untold(connection: sa.Connection, now: float) -> list[Row]:
    """Return what has become stale and was not told yet, and record that it is told."""
    rows = connection.execute(_UNTOLD).all()
    if rows:
        connection.execute(_TELL, [{"of": row.id, "now": now} for row in rows])
    return list(rows)


_observations: Final[sa.BindParameter[Any]] = sa.bindparam("observations", expanding=True)

_VERSIONS: Final[sa.Select[Any]] = sa.select(
    available.c.obs_id,
    available.c.product,
    sa.func.coalesce(available.c.content, available.c.version).label("version"),
    available.c.made_by,
).where(available.c.obs_id.in_(_observations))

_PROCESSINGS: Final[sa.Select[Any]] = sa.select(
    table.c.id,
    table.c.obs_id,
    table.c.product,
    table.c.inputs,
    table.c.stale_since,
    table.c.stale_because,
    table.c.stale_told,
).where(table.c.obs_id.in_(_observations))

_MARK: Final = (
    sa.update(table)
    .where(table.c.id == sa.bindparam("of"))
    .values(
        stale_because=sa.bindparam("reason", type_=sa.String),
        stale_since=sa.bindparam("since", type_=sa.Float),
        stale_told=sa.bindparam("told", type_=sa.Float),
    )
)

_UNTOLD: Final[sa.Select[Any]] = (
    sa.select(
        table.c.id, table.c.product, table.c.obs_id, table.c.stale_since, table.c.stale_because
    )
    .where(sa.text(STALE_UNTOLD))
    .order_by(table.c.stale_since)
    .limit(TOLD_TOGETHER)
    .with_for_update(skip_locked=True)
)
_ANY_UNTOLD: Final = sa.select(table.c.id).where(sa.text(STALE_UNTOLD)).limit(1)
_TELL: Final = (
    sa.update(table).where(table.c.id == sa.bindparam("of")).values(stale_told=sa.bindparam("now"))
)
