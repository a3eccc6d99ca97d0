"""What of a campaign waits for a person: however much it is, the rest goes on."""

from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.schema import OF_CAMPAIGN, TO_APPROVE, approvals
from batuta.conductor.database.schema import processings as table
from batuta.messaging import ProcessingState as State


def count_unapproved(connection: sa.Connection, number: int) -> int:
    """Return how many open items of a campaign wait for approval, before or after they are made."""
    counts = (connection.scalar(each, {"campaign": number}) for each in (_BEFORE, _AFTER))
    return sum(int(each or 0) for each in counts)


_COUNT: Final = sa.func.count()
_THIS: Final = table.c.campaign == sa.bindparam("campaign")
_BEFORE: Final[sa.Select[Any]] = (
    sa.select(_COUNT)
    .select_from(table)
    .where(sa.text(OF_CAMPAIGN), _THIS, table.c.state == State.UNAPPROVED)
)
_AFTER: Final[sa.Select[Any]] = (
    sa.select(_COUNT)
    .select_from(approvals.join(table, table.c.id == approvals.c.processing_id))
    .where(sa.text(f"{approvals.name}.{TO_APPROVE}"), _THIS)
)
