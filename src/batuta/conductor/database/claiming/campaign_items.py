"""What open campaigns are still to make, as decisions about new data see it."""

from collections.abc import Collection
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.campaign_schema import items
from batuta.conductor.database.records import MAX_IN
from batuta.conductor.decisions.campaigns import NOT_CLAIMED

Instance = tuple[str, str]
"""An observation and a product."""


def planned_by_campaigns(
    connection: sa.Connection, observations: Collection[str]
) -> dict[Instance, int]:
    """Return what campaigns have begun and not claimed of observations, and their numbers.

    They claim it themselves in their order, once all that it is made from is there: what arrives
    meanwhile, made by them or by others, would have it made twice.
    """
    names = sorted(observations)
    found: dict[Instance, int] = {}
    for start in range(0, len(names), MAX_IN):
        for row in connection.execute(_PLANNED, {"observations": names[start : start + MAX_IN]}):
            found[row.obs_id, row.product] = row.campaign
    return found


_PLANNED: Final = sa.select(items.c.campaign, items.c.obs_id, items.c.product).where(
    items.c.obs_id.in_(sa.bindparam("observations", expanding=True)),
    items.c.state.in_(NOT_CLAIMED),
)
