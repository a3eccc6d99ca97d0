"""Stages in the database: which were reached, and what a higher one supersedes.

Where no stage is told, none of it is executed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.history import record_superseded
from batuta.conductor.database.records import MAX_IN, Row, locked_rows, record_of, write_changes
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.statements import REACHED
from batuta.conductor.decisions.rules import Claim
from batuta.conductor.decisions.stages import Ranks, Reached, Staged, supersede
from batuta.messaging import ProcessingState as State
from batuta.stages import FINAL_RANK

_ENDED: Final = [State.SUCCEEDED, State.FAILED, State.CANCELLED]
_LOWER: Final = sa.select(table.c.id).where(
    table.c.obs_id == sa.bindparam("of"),
    table.c.product == sa.bindparam("made"),
    table.c.stage < sa.bindparam("stage", type_=sa.Integer),
    table.c.state.not_in(_ENDED),
)


def read_staged(connection: sa.Connection, ranks: Mapping[str, Ranks]) -> dict[str, Staged]:
    """Return what is known of the stages of observations, by the ranks that were told of each."""
    reached: defaultdict[str, dict[str, Reached]] = defaultdict(dict)
    names = list(ranks)
    for start in range(0, len(names), MAX_IN):
        some = {"observations": names[start : start + MAX_IN]}
        for obs_id, product, first, highest in connection.execute(REACHED, some):
            reached[obs_id][product] = Reached(first, highest)
    return {obs_id: Staged(told, reached[obs_id]) for obs_id, told in ranks.items()}


def read_staged_of(connection: sa.Connection, obs_id: str, rows: Iterable[Row]) -> Staged | None:
    """Return what is known of the stages of one observation, by the rows of what is available."""
    ranks = {row.product: row.stage for row in rows if row.stage is not None}
    return read_staged(connection, {obs_id: ranks})[obs_id] if ranks else None


def supersede_lower(
    connection: sa.Connection,
    claims: Sequence[Claim],
    staged: Mapping[str, Staged],
    now: float,
) -> tuple[str, ...]:
    """End what has not ended at a lower stage than `claims`; return the ids of those cancelled."""
    changes = []
    for claim in claims:
        known = staged.get(claim.obs_id)
        reached = known.reached.get(claim.product.name) if known is not None else None
        rank = FINAL_RANK if claim.stage is None else claim.stage
        if reached is None or reached.first >= rank:
            continue
        wanted = {"of": claim.obs_id, "made": claim.product.name, "stage": rank}
        ids = list(connection.scalars(_LOWER, wanted))
        for row in locked_rows(connection, ids).values():
            before = record_of(row)
            after = supersede(before, rank, now)
            if after is not None:
                changes.append((before, after))
    write_changes(connection, changes)
    record_superseded(connection, changes, now)
    return tuple(after.id for _, after in changes if after.state.ended)
