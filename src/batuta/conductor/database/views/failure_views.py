"""What fails, grouped by provider and by what errors have in common, as REST shows it."""

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from pydantic import BaseModel

from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import FAILING
from batuta.conductor.database.schema import processings as table
from batuta.messaging.processings import instant_of
from batuta.service.database import reading
from batuta.service.pagination import Page

Key = tuple[str, str]
"""A provider, and the kind of an error."""


class FailureGroup(BaseModel):
    """What fails at a provider with like errors.

    `kind` is what the errors have in common: ``#`` stands for numbers, ids and observations; empty
    if no error was told. `failed` counts what was given up, `retrying` what is tried again;
    `products` counts both, by product. `since` is when the first of them has ended, or was
    requested last, `latest` when the last one. `example` is the id of one of them, `error` its
    error as it was told.
    """

    provider: str
    kind: str
    failed: int
    retrying: int
    products: dict[str, int]
    since: datetime
    latest: datetime
    example: str
    error: str | None


class FailureViews:
    """Reads what fails; never writes."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def page(
        self, provider: str | None, limit: int, cursor: str | None = None
    ) -> Page[FailureGroup]:
        """Return a page of groups, by provider and kind.

        Raises
        ------
        ValueError
            If `cursor` is none that a page had.
        """
        query = _GROUPS.limit(limit + 1)
        if cursor is not None:
            query = query.where(sa.tuple_(*map(sa.literal, _decoded(cursor))) < _KEY)
        if provider is not None:
            query = query.where(table.c.provider == provider)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
            shown = rows[:limit]
            products = _products(connection, shown)
            groups = [_group(connection, row, products[_key(row)]) for row in shown]
        more = len(rows) > limit
        return Page(items=groups, next=json.dumps(_key(shown[-1])) if more else None)


_KEY: Final = sa.tuple_(table.c.provider, table.c.error_kind)
_LAST: Final = sa.func.coalesce(table.c.ended, table.c.requested, 0.0)
_GROUPS: Final = (
    sa.select(
        table.c.provider,
        table.c.error_kind,
        sa.func.count().filter(table.c.state == sa.literal_column("'failed'")).label("failed"),
        sa.func.count().label("number"),
        sa.func.min(_LAST).label("since"),
        sa.func.max(_LAST).label("latest"),
    )
    .where(sa.text(FAILING))
    .group_by(table.c.provider, table.c.error_kind)
    .order_by(table.c.provider, table.c.error_kind)
)
_PRODUCTS: Final = (
    sa.select(
        table.c.provider, table.c.error_kind, table.c.product, sa.func.count().label("number")
    )
    .where(
        sa.text(FAILING),
        sa.tuple_(sa.bindparam("provider"), sa.bindparam("kind")) <= _KEY,
        sa.tuple_(sa.bindparam("last_provider"), sa.bindparam("last_kind")) >= _KEY,
    )
    .group_by(table.c.provider, table.c.error_kind, table.c.product)
    .order_by(table.c.provider, table.c.error_kind, table.c.product)
)
_EXAMPLE: Final = (
    sa.select(table.c.id, table.c.error)
    .where(
        sa.text(FAILING),
        table.c.provider == sa.bindparam("provider"),
        table.c.error_kind == sa.bindparam("kind"),
    )
    .limit(1)
)


def _products(connection: sa.Connection, groups: Sequence[Row]) -> dict[Key, dict[str, int]]:
    found: defaultdict[Key, dict[str, int]] = defaultdict(dict)
    if groups:
        first, last = _key(groups[0]), _key(groups[-1])
        span = {"provider": first[0], "kind": first[1]}
        span |= {"last_provider": last[0], "last_kind": last[1]}
        for row in connection.execute(_PRODUCTS, span):
            found[_key(row)][row.product] = row.number
    return found


def _group(connection: sa.Connection, row: Row, products: dict[str, int]) -> FailureGroup:
    key = {"provider": row.provider, "kind": row.error_kind}
    example = connection.execute(_EXAMPLE, key).one()
    return FailureGroup(
        provider=row.provider,
        kind=row.error_kind,
        failed=row.failed,
        retrying=row.number - row.failed,
        products=products,
        since=instant_of(row.since),
        latest=instant_of(row.latest),
        example=example.id,
        error=example.error,
    )


def _key(row: Row) -> Key:
    return row.provider, row.error_kind


def _decoded(cursor: str) -> Key:
    match json.loads(cursor):
        case [str(provider), str(kind)]:
            return provider, kind
    raise ValueError(cursor)
