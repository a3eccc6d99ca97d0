"""How many bytes the versions of each product have, with their quicklooks, in the database.

Triggers keep the sums (see the migration 0010): reading them costs the same however many versions
there are. Equal bytes, which are kept once, count for each version.
"""

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from batuta.sdb.tables import PRODUCTS, QUICKLOOKS, USAGE

_SELECT_TOTAL: Final = sa.select(sa.cast(sa.func.sum(USAGE.c.bytes), sa.BigInteger))
_SELECT_SOME: Final = sa.select(USAGE.c.product, USAGE.c.bytes).where(
    USAGE.c.product.in_(sa.bindparam("products", expanding=True))
)


@dataclass(frozen=True)
class WrongUsage:
    """A sum that is not that of the records."""

    product: str
    counted_bytes: int
    recorded_bytes: int


def total_bytes(connection: sa.Connection) -> int:
    """Return the bytes of all versions and quicklooks."""
    return connection.scalar(_SELECT_TOTAL) or 0


def bytes_by_product(connection: sa.Connection, products: list[str]) -> dict[str, int]:
    """Return the bytes of some products; one that has no version has none."""
    rows = connection.execute(_SELECT_SOME, {"products": products}).all() if products else ()
    return {**dict.fromkeys(products, 0), **{row.product: row.bytes for row in rows}}


def wrong_usage(connection: sa.Connection) -> list[WrongUsage]:
    """Return the sums that are not those of the records, which are all read, at one moment."""
    parts = sa.union_all(
        *(
            sa.select(table.c.product, sa.func.coalesce(table.c.size, 0).label("recorded"), _ZERO)
            for table in (PRODUCTS, QUICKLOOKS)
        ),
        sa.select(USAGE.c.product, sa.literal(0), USAGE.c.bytes),
    ).subquery()
    recorded, counted = (
        sa.cast(sa.func.sum(each), sa.BigInteger) for each in (parts.c.recorded, parts.c.counted)
    )
    query = (
        sa.select(parts.c.product, counted, recorded)
        .group_by(parts.c.product)
        .having(recorded != counted)
        .order_by(parts.c.product)
    )
    return [WrongUsage(*row) for row in connection.execute(query)]


def correct_usage(connection: sa.Connection) -> None:
    """Sum the records again; nobody may write meanwhile (see `lock_writers`)."""
    for wrong in wrong_usage(connection):
        connection.execute(sa.delete(USAGE).where(USAGE.c.product == wrong.product))
        row = {"product": wrong.product, "bytes": wrong.recorded_bytes}
        connection.execute(sa.insert(USAGE), row)


_ZERO: Final = sa.literal(0).label("counted")
