"""The products that are late, as REST shows them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel

from batuta.conductor.database.lists import decode_key, encode_key
from batuta.conductor.database.schema import LATE, deadlines
from batuta.conductor.database.schema import processings as table
from batuta.messaging.processings import instant_of
from batuta.service.database import one_moment, reading
from batuta.service.listing import Listing, equals_unindexed


class LateView(BaseModel):
    """A product of an observation that was due and is not available.

    `state` is that of its newest processing; None if none was requested. `expires` is when it is
    not worth making any more.
    """

    product: str
    obs_id: str
    due: datetime
    expires: datetime | None
    state: str | None


class LatePage(BaseModel):
    """A page of what is late; `total` counts all of it."""

    items: list[LateView]
    next: str | None
    total: int


class DeadlineView(BaseModel):
    """By when a product that is not available was to be there, and what was told of it.

    `late_since` is when it was told that it is late, `expired` when it was no longer worth making.
    """

    due: datetime | None
    expires: datetime | None
    late_since: datetime | None
    expired: datetime | None

    def words(self) -> str:
        """Say it in one line, for people."""
        if self.expired is not None:
            return f"has expired at {self.expires:%Y-%m-%d %H:%M:%S}: it is not made any more"
        late = "late: it " if self.late_since is not None else ""
        due = [] if self.due is None else [f"{late}was due" if late else "due"]
        parts = [f"{each} at {self.due:%Y-%m-%d %H:%M:%S}" for each in due]
        if self.expires is not None:
            parts.append(f"expires at {self.expires:%Y-%m-%d %H:%M:%S}")
        return ", ".join(parts)


class LateViews:
    """Reads what is late; never writes."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def count(self) -> int:
        """Return how many products of observations are late, without those that have expired."""
        with reading(self._engine) as connection:
            number = connection.scalar(
                sa.select(sa.func.count()).select_from(deadlines).where(sa.text(LATE))
            )
        return number or 0

    def deadline(self, product: str, obs_id: str) -> DeadlineView | None:
        """Return the deadline of a product of an observation; None if it has none."""
        query = sa.select(deadlines).where(
            deadlines.c.obs_id == obs_id, deadlines.c.product == product
        )
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        names = DeadlineView.model_fields
        values = {name: getattr(row, name) for name in names}
        return DeadlineView(
            **{name: None if value is None else instant_of(value) for name, value in values.items()}
        )

    def page(self, product: str | None, limit: int, cursor: str | None) -> LatePage:
        """Return a page of what is late, that first which was due first.

        Raises
        ------
        ValueError
            If `cursor` is none that a page had.
        """
        after = _key(cursor)
        state = (
            sa.select(table.c.state)
            .where(table.c.obs_id == deadlines.c.obs_id, table.c.product == deadlines.c.product)
            .order_by(table.c.created.desc(), table.c.id.desc())
            .limit(1)
            .scalar_subquery()
        )
        listing = Listing(
            query=sa.select(deadlines, state.label("state")),
            key=[deadlines.c.due, deadlines.c.obs_id, deadlines.c.product],
            descending=False,
            selected=[sa.text(LATE)],
            checked=[] if product is None else [equals_unindexed(deadlines.c.product, product)],
        )
        with one_moment(self._engine), reading(self._engine) as connection:
            rows, following = listing.page(connection, limit, after)
            total = self.count()
        return LatePage(items=[_view(row) for row in rows], next=_cursor(following), total=total)


def _key(cursor: str | None) -> tuple[float, str, str] | None:
    key = decode_key(cursor)
    if key is None:
        return None
    # No name has a slash.
    obs_id, product = str(key[1]).split("/")
    return float(key[0]), obs_id, product


def _cursor(key: Sequence[Any] | None) -> str | None:
    return None if key is None else encode_key((key[0], f"{key[1]}/{key[2]}"))


def _view(row: sa.Row[Any]) -> LateView:
    return LateView(
        product=row.product,
        obs_id=row.obs_id,
        due=instant_of(row.due),
        expires=None if row.expires is None else instant_of(row.expires),
        state=row.state,
    )
