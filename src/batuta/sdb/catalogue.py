"""The records of the sdb: what was imported, under which version, from what."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa

from batuta.messaging import DataAvailable, utc_now
from batuta.sdb.records import InputRef, Lineage, LineageNode, StoredProduct
from batuta.sdb.tables import OUTBOX, PRODUCTS
from batuta.service.database import reading
from batuta.service.lists import Page
from batuta.service.problems import ProblemError

NAMED_AT_MOST: Final = 20
"""How many names a refusal shows of what there is."""

# What every import executes is built once: building costs more than executing.
_OF_PROCESSING: Final = sa.select(PRODUCTS).where(
    PRODUCTS.c.processing_id == sa.bindparam("by"),
    PRODUCTS.c.product == sa.bindparam("of_product"),
)
_NEXT_VERSION: Final = sa.select(sa.func.coalesce(sa.func.max(PRODUCTS.c.version), 0) + 1).where(
    PRODUCTS.c.product == sa.bindparam("of_product"),
    PRODUCTS.c.obs_id == sa.bindparam("of_obs_id"),
)
_INSERTION: Final = (
    sa.insert(PRODUCTS).values(version=_NEXT_VERSION.scalar_subquery()).returning(PRODUCTS)
)
_TO_ANNOUNCE: Final = sa.insert(OUTBOX)


@dataclass(frozen=True, kw_only=True)
class NewProduct:
    """A product to record; its bytes are in the store already."""

    product: str
    obs_id: str
    sha256: str
    size: int
    media_type: str
    filename: str | None
    metadata: Mapping[str, Any]
    provider: str | None
    processing_id: str | None
    inputs: tuple[InputRef, ...]


@dataclass(frozen=True)
class Recorded:
    """What an import came to: the record, and whether this import made it."""

    stored: StoredProduct
    is_new: bool


@dataclass(frozen=True, kw_only=True)
class ProductQuery:
    """Which products to list, and from where: `after` is the `id` of the last one seen."""

    product: str | None = None
    obs_id: str | None = None
    latest: bool = False
    limit: int = 100
    after: int = 0


class Catalogue:
    """Records products and finds them again.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database, its schema up to date.
    base_url : str
        The address that others reach the sdb by.
    """

    def __init__(self, engine: sa.Engine, base_url: str) -> None:
        self._engine = engine
        self._base_url = base_url.rstrip("/")

    def record(self, connection: sa.Connection, new: NewProduct) -> Recorded:
        """Record `new` under the next version, and its announcement, in a `Committer`'s turn.

        A processing imports a product once: a second time, the first record is returned.

        Raises
        ------
        ProblemError
            409 if that processing imported the product for another observation.
        """
        known = self._of_processing(connection, new)
        if known is not None:
            return Recorded(known, is_new=False)
        stored = self._stored(connection.execute(_INSERTION, _values(new)).one())
        connection.execute(_TO_ANNOUNCE, _announcement(stored))
        return Recorded(stored, is_new=True)

    def find(self, product: str, obs_id: str, version: int | None = None) -> StoredProduct:
        """Return that version of a product, or its newest.

        Raises
        ------
        ProblemError
            404, naming what there is, if there is none.
        """
        with reading(self._engine) as connection:
            found = self._find(connection, product, obs_id, version)
            if found is not None:
                return found
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                _what_there_is(connection, product, obs_id, version),
            )

    def page(self, query: ProductQuery) -> Page[StoredProduct]:
        """List products in the order of their import, `query.limit` at a time."""
        with reading(self._engine) as connection:
            rows = connection.execute(_selection(query)).all()
        shown = rows[: query.limit]
        cursor = str(shown[-1].id) if len(rows) > query.limit else None
        return Page(items=[self._stored(row) for row in shown], next=cursor)

    def lineage(self, product: str, obs_id: str, version: int | None = None) -> Lineage:
        """Follow a product's inputs, and theirs, to the end; 404 as `find`."""
        root = self.find(product, obs_id, version)
        nodes: dict[InputRef, LineageNode] = {}
        waiting = deque([InputRef(product=root.product, version=root.version)])
        with reading(self._engine) as connection:
            while waiting:
                ref = waiting.popleft()
                if ref in nodes:
                    continue
                stored = self._find(connection, ref.product, obs_id, ref.version)
                nodes[ref] = LineageNode(product=ref.product, version=ref.version, stored=stored)
                waiting.extend(stored.inputs if stored else ())
        return Lineage(obs_id=obs_id, items=tuple(nodes.values()))

    def answers(self) -> bool:
        """Whether the database answers."""
        try:
            with reading(self._engine) as connection:
                connection.execute(sa.select(1))
        except sa.exc.SQLAlchemyError:
            return False
        return True

    def _of_processing(self, connection: sa.Connection, new: NewProduct) -> StoredProduct | None:
        if new.processing_id is None:
            return None
        asked = {"by": new.processing_id, "of_product": new.product}
        row = connection.execute(_OF_PROCESSING, asked).one_or_none()
        if row is not None and row.obs_id != new.obs_id:
            raise ProblemError(
                HTTPStatus.CONFLICT,
                f"processing_id: {new.processing_id!r} has imported {new.product} for obs_id "
                f"{row.obs_id!r} already, not for {new.obs_id!r}; nothing was recorded",
            )
        return self._stored(row) if row is not None else None

    def _find(
        self, connection: sa.Connection, product: str, obs_id: str, version: int | None
    ) -> StoredProduct | None:
        table = PRODUCTS.c
        query = sa.select(PRODUCTS).where(table.product == product, table.obs_id == obs_id)
        if version is not None:
            query = query.where(table.version == version)
        row = connection.execute(query.order_by(table.version.desc()).limit(1)).one_or_none()
        return self._stored(row) if row is not None else None

    def _stored(self, row: sa.Row[Any]) -> StoredProduct:
        values = dict(row._mapping)
        return StoredProduct.model_validate({**values, "uri": self._uri(values)})

    def _uri(self, values: Mapping[str, Any]) -> str:
        product, obs_id = quote(values["product"], safe=""), quote(values["obs_id"], safe="")
        return f"{self._base_url}/products/{product}/{obs_id}/versions/{values['version']}/data"


def _values(new: NewProduct) -> dict[str, Any]:
    return {
        **vars(new),
        "metadata": dict(new.metadata),
        "inputs": [ref.model_dump() for ref in new.inputs],
        "created": utc_now(),
        "of_product": new.product,
        "of_obs_id": new.obs_id,
    }


def _announcement(stored: StoredProduct) -> dict[str, Any]:
    event = DataAvailable(
        product=stored.product,
        obs_id=stored.obs_id,
        version=stored.version,
        processing_id=stored.processing_id,
        provider=stored.provider,
        size=stored.size,
        sha256=stored.sha256,
        uri=stored.uri,
    )
    # The time tells two databases apart: one made anew counts its versions from 1 again.
    event_id = f"{stored.product}/{stored.obs_id}/{stored.version}@{stored.created.isoformat()}"
    return {"event_id": event_id, "event": event.model_dump(mode="json", exclude_none=True)}


def _selection(query: ProductQuery) -> sa.Select[Any]:
    table = PRODUCTS.c
    selection = sa.select(PRODUCTS).where(table.id > query.after)
    if query.product is not None:
        selection = selection.where(table.product == query.product)
    if query.obs_id is not None:
        selection = selection.where(table.obs_id == query.obs_id)
    if query.latest:
        selection = selection.where(~_newer().exists())
    return selection.order_by(table.id).limit(query.limit + 1)


def _newer() -> sa.Select[Any]:
    newer, table = PRODUCTS.alias("newer"), PRODUCTS.c
    return sa.select(newer.c.id).where(
        newer.c.product == table.product,
        newer.c.obs_id == table.obs_id,
        newer.c.version > table.version,
    )


def _what_there_is(
    connection: sa.Connection, product: str, obs_id: str, version: int | None
) -> str:
    table = PRODUCTS.c
    newest = connection.scalar(
        sa.select(sa.func.max(table.version)).where(
            table.product == product, table.obs_id == obs_id
        )
    )
    if newest is not None:
        return f"{product} of {obs_id} has no version {version} (it has: 1 to {newest})"
    names = connection.scalars(
        sa.select(table.product)
        .where(table.obs_id == obs_id)
        .distinct()
        .order_by(table.product)
        .limit(NAMED_AT_MOST + 1)
    ).all()
    shown = ", ".join(names[:NAMED_AT_MOST]) + (", ..." if len(names) > NAMED_AT_MOST else "")
    return f"there is no {product} of {obs_id} (of {obs_id} there is: {shown or 'nothing'})"
