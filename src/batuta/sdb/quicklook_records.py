"""The records of quicklooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from batuta.sdb.contents import KeptBytes
from batuta.sdb.records import StoredProduct
from batuta.sdb.tables import CONTENTS, QUICKLOOKS
from batuta.service.database import insert

_KEY: Final = ("product", "obs_id", "version")
_SELECT: Final = sa.select(QUICKLOOKS).where(
    *(QUICKLOOKS.c[name] == sa.bindparam(name) for name in _KEY)
)


@dataclass(frozen=True, kw_only=True)
class NewQuicklook(KeptBytes):
    """A picture to record, with its media type."""

    media_type: str


@dataclass(frozen=True, kw_only=True)
class DrawnQuicklook:
    """What came of drawing a version: a picture, or a problem.

    `drawer` is the version of what has drawn it; None for a picture that came with the product.
    """

    sha256: str | None = None
    size: int | None = None
    media_type: str | None = None
    problem: str | None = None
    drawer: str | None = None


def insert_given(
    connection: sa.Connection, given: Sequence[tuple[StoredProduct, NewQuicklook | None]]
) -> None:
    """Insert the quicklooks that came with products; their bytes are there already."""
    rows = [
        {
            **_key_of(stored),
            "sha256": picture.sha256,
            "size": picture.size,
            "media_type": picture.media_type,
            "problem": None,
            "drawer": None,
        }
        for stored, picture in given
        if picture is not None
    ]
    if rows:
        upsert = insert(connection, QUICKLOOKS)
        # Of a version whose record was lost, what is left of it is replaced.
        values = {name: upsert.excluded[name] for name in _VALUES}
        connection.execute(
            upsert.on_conflict_do_update(index_elements=list(_KEY), set_=values), rows
        )


def record_drawn(
    connection: sa.Connection,
    stored: StoredProduct,
    drawn: DrawnQuicklook,
    content: bytes | None = None,
) -> None:
    """Record what came of drawing a version, and the picture's `content` if it is small.

    A picture that is recorded already, by another sdb on this database, is kept.
    """
    if content is not None:
        row = {"sha256": drawn.sha256, "content": content}
        connection.execute(insert(connection, CONTENTS).on_conflict_do_nothing(), [row])
    values = {name: getattr(drawn, name) for name in _VALUES}
    upsert = insert(connection, QUICKLOOKS).values({**_key_of(stored), **values})
    connection.execute(
        upsert.on_conflict_do_update(
            index_elements=list(_KEY), set_=values, where=QUICKLOOKS.c.sha256.is_(None)
        )
    )


def find_quicklook(connection: sa.Connection, stored: StoredProduct) -> DrawnQuicklook | None:
    """Return what is recorded of a version's quicklook."""
    row = connection.execute(_SELECT, _key_of(stored)).one_or_none()
    if row is None:
        return None
    return DrawnQuicklook(**{name: row._mapping[name] for name in _VALUES})


_VALUES: Final = tuple(DrawnQuicklook.__dataclass_fields__)


def _key_of(stored: StoredProduct) -> dict[str, str | int]:
    return {"product": stored.product, "obs_id": stored.obs_id, "version": stored.version}
