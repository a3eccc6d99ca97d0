"""Which processing made a version that names none of ours, inside a transaction.

A pipeline that others wrote imports its product under an id of its own, or under none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.schema import available
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.events import Archived, Interface
from batuta.conductor.decisions.processing_record import AT_PROVIDER
from batuta.messaging import ProcessingState as State

_OPEN: Final = AT_PROVIDER | {State.WAITING, State.RETRYING, State.HELD}


def attribute(connection: sa.Connection, imported: Sequence[Archived]) -> Iterator[Archived]:
    """Yield what was imported under the id of the processing that made it, where there is one.

    It is the processing of that product and observation that was requested and has not ended:
    there is never more than one at its provider. A pipeline that counts attempts imports under the
    id that it was sent: what names another is not of it, but was imported by hand. A version that
    is recorded already was imported before, and says nothing of a processing that was requested
    since.
    """
    observations = {each.obs_id for each in imported}
    recorded = {
        (row.product, row.obs_id): row.version
        for row in connection.execute(
            sa.select(available).where(available.c.obs_id.in_(observations), available.c.archived)
        )
    }
    requested = connection.execute(
        sa.select(table.c.id, table.c.product, table.c.obs_id)
        .where(table.c.obs_id.in_(observations), table.c.state.in_(_OPEN), table.c.attempt > 0)
        .where(sa.or_(table.c.interface.is_(None), table.c.interface != Interface.ATTEMPTS))
        # The last one of a product is taken: it is at its provider, if any of them is.
        .order_by(table.c.state.in_(AT_PROVIDER), table.c.requested)
    )
    makers = {(row.product, row.obs_id): row.id for row in requested}
    for each in imported:
        instance = each.product, each.obs_id
        if instance in makers and each.version > recorded.get(instance, 0):
            yield replace(each, processing_id=makers[instance])
