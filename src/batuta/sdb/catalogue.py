"""The catalogue: one record per imported version, with its lineage."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa

from batuta.json_values import carriable, json_problem
from batuta.messaging import DataAvailable, DataEvent, DataWithdrawn, utc_now
from batuta.messaging.events import DATA_TYPE, WITHDRAWN_TYPE
from batuta.sdb.fields import ImportSubject
from batuta.sdb.lists import ProductQuery, list_products
from batuta.sdb.new_product import NewProduct
from batuta.sdb.outbox import Announcement
from batuta.sdb.quicklook_records import insert_given
from batuta.sdb.quota import Limits
from batuta.sdb.records import InputRef, Lineage, LineageNode, StoredProduct
from batuta.sdb.repeats import (
    equal_newest_versions,
    imports_of_processings,
    may_repeat,
    without_repeats,
)
from batuta.sdb.tables import CONTENTS, OUTBOX, PRODUCTS, rank
from batuta.service.database import UNAVAILABLE, insert, one_moment, reading, unavailable_reason
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError
from batuta.work_classes import WorkClass

MAX_LISTED_NAMES: Final = 20
"""Products listed in a "not found" answer."""

# Built once: compiling these statements costs more than executing them.
_NEXT_VERSION: Final = sa.select(sa.func.coalesce(sa.func.max(PRODUCTS.c.version), 0) + 1).where(
    PRODUCTS.c.product == sa.bindparam("of_product"),
    PRODUCTS.c.obs_id == sa.bindparam("of_obs_id"),
)
_INSERT_PRODUCT: Final = sa.insert(PRODUCTS).values(version=_NEXT_VERSION.scalar_subquery())
_SELECT_LAST_ID: Final = sa.select(sa.func.coalesce(sa.func.max(PRODUCTS.c.id), 0))
_SELECT_INSERTED: Final = (
    sa.select(PRODUCTS.c.version)
    .where(PRODUCTS.c.id > sa.bindparam("last"))
    .order_by(PRODUCTS.c.id)
)
_INSERT_ANNOUNCEMENT: Final = sa.insert(OUTBOX)
_SELECT_ANNOUNCED: Final = (
    sa.select(OUTBOX.c.id).order_by(OUTBOX.c.id.desc()).limit(sa.bindparam("count"))
)
_INSERT_PROBE: Final = sa.insert(OUTBOX).returning(OUTBOX.c.id)


@dataclass(frozen=True)
class ImportResult:
    """The record of an import; `announcement` if it is new, and to be published once committed."""

    stored: StoredProduct
    announcement: Announcement | None = None

    @property
    def is_new(self) -> bool:
        """Whether this import created the record."""
        return self.announcement is not None


class Catalogue:
    """Records products, and looks them up.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database, its schema up to date.
    base_url : str
        The address at which others reach the sdb.
    limits : Limits
        What is refused beyond.
    """

    def __init__(self, engine: sa.Engine, base_url: str, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._engine = engine
        self._base_url = base_url.rstrip("/")

    def record_all(
        self, connection: sa.Connection, news: Sequence[NewProduct]
    ) -> list["ImportResult | ProblemError"]:
        """Insert the next version of each of `news`, and its announcement; return the outcomes.

        For `Committer.commit_item`. A processing imports a product once: a repeat returns the
        first record. Once that was withdrawn, a later attempt imports another; a repeat must not
        bring it back. What names no processing repeats the newest version if its bytes and all
        that it says are the same. The problem of one is 409: that processing imported the product
        for another observation, or for another provider; or 507: it would pass a quota.
        """
        outcomes: list[ImportResult | ProblemError] = []
        for batch in without_repeats(news):
            outcomes += self._record_batch(connection, batch)
        return outcomes

    def _record_batch(
        self, connection: sa.Connection, news: Sequence[NewProduct]
    ) -> list["ImportResult | ProblemError"]:
        outcomes = self._imported(connection, news)
        unknown = [new for new, outcome in zip(news, outcomes, strict=True) if outcome is None]
        # After repeats were found: they need no room, and are answered however full it is.
        refused = self._limits.refusals(connection, unknown)
        accepted = [new for new, problem in zip(unknown, refused, strict=True) if problem is None]
        recorded, problems = iter(self._insert(connection, accepted)), iter(refused)
        return [outcome or next(problems) or next(recorded) for outcome in outcomes]

    def _insert(self, connection: sa.Connection, news: Sequence[NewProduct]) -> list[ImportResult]:
        if not news:
            return []
        # Nobody else inserts meanwhile, as writers take turns (see `Committer`): these are the rows
        # after the last one, in this order.
        last = connection.scalar(_SELECT_LAST_ID)
        created = utc_now()
        small = [
            {"sha256": each.sha256, "content": each.content}
            for new in news
            for each in (new, new.quicklook)
            if each is not None and each.content is not None
        ]
        if small:
            connection.execute(insert(connection, CONTENTS).on_conflict_do_nothing(), small)
        rows = [new.row(created) for new in news]
        connection.execute(
            _INSERT_PRODUCT,
            [{**row, "of_product": row["product"], "of_obs_id": row["obs_id"]} for row in rows],
        )
        versions = connection.scalars(_SELECT_INSERTED, {"last": last})
        stored = [
            self._model({**row, "version": version})
            for row, version in zip(rows, versions, strict=True)
        ]
        insert_given(
            connection,
            [(each, new.quicklook) for each, new in zip(stored, news, strict=True)],
        )
        announced = [
            _announcement(each, new.work_class) for each, new in zip(stored, news, strict=True)
        ]
        connection.execute(_INSERT_ANNOUNCEMENT, announced)
        # The last ones, for the same reason; those that `problem` inserts are seen by nobody.
        ids = connection.scalars(_SELECT_ANNOUNCED, {"count": len(announced)}).all()
        return [
            ImportResult(one, Announcement(id=id_, **row))
            for one, row, id_ in zip(stored, announced, reversed(ids), strict=True)
        ]

    def find_repeated(self, new: NewProduct) -> ImportResult | None:
        """Return the record of an import that `new` repeats, if any.

        Looked for before the bytes are stored, so that a refusal, a repeat or a database that
        cannot be used leaves none. It blocks.

        Raises
        ------
        ProblemError
            409 if that processing imported the product for another observation or provider.
        """
        with reading(self._engine) as connection:
            known = self._imported(connection, [new])[0]
        if isinstance(known, ProblemError):
            raise known
        return known

    def may_repeat(self, subject: ImportSubject, size: int) -> bool:
        """Return whether an import may repeat another, before its bytes are known. It blocks."""
        with reading(self._engine) as connection:
            return may_repeat(connection, subject, size)

    def find(self, product: str, obs_id: str, version: int | None = None) -> StoredProduct:
        """Return that version of a product, or the newest that was not withdrawn.

        A version of a higher stage is newer than all of lower ones.

        Raises
        ------
        ProblemError
            404 if there is none; the detail lists what exists. 410 if it was withdrawn.
        """
        with reading(self._engine) as connection:
            found = self._find(connection, product, obs_id, version)
            if found is not None and found.withdrawn is not None:
                raise ProblemError(HTTPStatus.GONE, _withdrawal(found))
            if found is not None:
                return found
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                _not_found_detail(connection, product, obs_id, version),
            )

    def look_up(self, product: str, obs_id: str, version: int) -> StoredProduct | None:
        """Return a version, withdrawn or not; None if there is none. It blocks."""
        with reading(self._engine) as connection:
            return self._find(connection, product, obs_id, version)

    def withdraw(
        self, connection: sa.Connection, product: str, obs_id: str, version: int, reason: str | None
    ) -> StoredProduct:
        """Withdraw a version, and announce it; a `Committer` commits both.

        It is kept, and given no more; its number is not used again. One that was withdrawn before
        is returned as it is, and not announced again.

        Raises
        ------
        ProblemError
            404 if there is no such version.
        """
        table = PRODUCTS.c
        change = (
            sa.update(PRODUCTS)
            .where(table.product == product, table.obs_id == obs_id, table.version == version)
            .where(table.withdrawn.is_(None))
            .values(withdrawn=utc_now(), withdrawn_reason=reason)
        )
        changed = connection.execute(change).rowcount
        found = self._find(connection, product, obs_id, version)
        if found is None:
            detail = _not_found_detail(connection, product, obs_id, version)
            raise ProblemError(HTTPStatus.NOT_FOUND, detail)
        if changed:
            left = self._find(connection, product, obs_id, None)
            newest = left.version if left is not None else None
            connection.execute(_INSERT_ANNOUNCEMENT, _withdrawn_event(found, newest))
        return found

    def page(self, query: ProductQuery) -> Page[StoredProduct]:
        """Return one page of products, in the order of their import."""
        with reading(self._engine) as connection:
            rows, following = list_products(query).page(connection, query.limit, (query.after,))
        cursor = str(following[0]) if following is not None else None
        return Page(items=[self._stored(row) for row in rows], next=cursor)

    def lineage(self, product: str, obs_id: str, version: int | None = None) -> Lineage:
        """Return the inputs of a product, and theirs, to the end; raises as `find`."""
        nodes: dict[InputRef, LineageNode] = {}
        with one_moment(self._engine), reading(self._engine) as connection:
            root = self.find(product, obs_id, version)
            waiting = deque([InputRef(product=root.product, version=root.version)])
            while waiting:
                ref = waiting.popleft()
                if ref in nodes:
                    continue
                stored = self._find(connection, ref.product, obs_id, ref.version)
                nodes[ref] = LineageNode(product=ref.product, version=ref.version, stored=stored)
                waiting.extend(stored.inputs if stored else ())
        return Lineage(obs_id=obs_id, items=tuple(nodes.values()))

    def problem(self) -> str | None:
        """Write a row and delete it; return why that cannot be done, in one line. It blocks."""
        try:
            with self._engine.begin() as connection:
                # In one transaction: nobody sees the row, and a full disk refuses it.
                probe = connection.execute(_INSERT_PROBE, {"event_id": "", "event": {}})
                connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.id == probe.scalar_one()))
        except UNAVAILABLE as exc:
            return unavailable_reason(exc)
        return None

    def is_empty(self) -> bool:
        """Return whether it has no product at all."""
        with reading(self._engine) as connection:
            return connection.scalar(sa.select(PRODUCTS.c.id).limit(1)) is None

    def _imported(
        self, connection: sa.Connection, news: Sequence[NewProduct]
    ) -> list["ImportResult | ProblemError | None"]:
        """Return, for each of `news`, the import that it repeats, or the problem with that."""
        by_processing = imports_of_processings(connection, news)
        outcomes = [self._repeated(new, row) for new, row in zip(news, by_processing, strict=True)]
        for place, row in equal_newest_versions(connection, news).items():
            outcomes[place] = ImportResult(self._stored(row))
        return outcomes

    def _repeated(
        self, new: NewProduct, row: sa.Row[Any] | None
    ) -> "ImportResult | ProblemError | None":
        if row is None or (row.withdrawn is not None and _is_later(new, row)):
            return None
        for key in ("obs_id", "provider"):
            first, given = row._mapping[key], getattr(new, key)
            if given != first:
                return ProblemError(
                    HTTPStatus.CONFLICT,
                    f"processing_id: {new.processing_id!r} has imported {new.product} for {key} "
                    f"{first!r} already, not for {given!r}; nothing was recorded",
                )
        return ImportResult(self._stored(row))

    def _find(
        self, connection: sa.Connection, product: str, obs_id: str, version: int | None
    ) -> StoredProduct | None:
        table = PRODUCTS.c
        query = sa.select(PRODUCTS).where(table.product == product, table.obs_id == obs_id)
        if version is None:
            query = query.where(table.withdrawn.is_(None))
            query = query.order_by(rank(table).desc(), table.version.desc()).limit(1)
        else:
            query = query.where(table.version == version)
        row = connection.execute(query).one_or_none()
        return self._stored(row) if row is not None else None

    def _stored(self, row: sa.Row[Any]) -> StoredProduct:
        values = dict(row._mapping)
        if json_problem(values["metadata"], "metadata") is not None:
            values["metadata"] = carriable(values["metadata"])
        return self._model(values)

    def _model(self, values: Mapping[str, Any]) -> StoredProduct:
        return StoredProduct.model_validate({**values, "uri": self._uri(values)})

    def _uri(self, values: Mapping[str, Any]) -> str:
        product, obs_id = quote(values["product"], safe=""), quote(values["obs_id"], safe="")
        return f"{self._base_url}/products/{product}/{obs_id}/versions/{values['version']}/data"


def _is_later(new: NewProduct, row: sa.Row[Any]) -> bool:
    """Return whether an import is of a later attempt than a row; without a number, it may be."""
    return new.attempt is None or row.attempt is None or new.attempt > row.attempt


def _announcement(stored: StoredProduct, work_class: WorkClass | None) -> dict[str, Any]:
    event = DataAvailable(
        product=stored.product,
        obs_id=stored.obs_id,
        version=stored.version,
        processing_id=stored.processing_id,
        provider=stored.provider,
        size=stored.size,
        sha256=stored.sha256,
        uri=stored.uri,
        stage=stored.stage,
        work_class=work_class,
    )
    # The time tells two databases apart: one created again counts its versions from 1 again.
    event_id = f"{stored.product}/{stored.obs_id}/{stored.version}@{stored.created.isoformat()}"
    return _outbox_row(event_id, DATA_TYPE, event)


def _withdrawn_event(stored: StoredProduct, newest: int | None) -> dict[str, Any]:
    event = DataWithdrawn(
        product=stored.product,
        obs_id=stored.obs_id,
        version=stored.version,
        withdrawn=stored.withdrawn or utc_now(),
        reason=stored.withdrawn_reason,
        newest=newest,
    )
    which = f"{stored.product}/{stored.obs_id}/{stored.version}"
    event_id = f"{which}/withdrawn@{event.withdrawn.isoformat()}"
    return _outbox_row(event_id, WITHDRAWN_TYPE, event)


def _outbox_row(event_id: str, kind: str, event: DataEvent) -> dict[str, Any]:
    data = event.model_dump(mode="json", exclude_none=True)
    return {"event_id": event_id, "type": kind, "event": data}


def _withdrawal(stored: StoredProduct) -> str:
    reason = f": {stored.withdrawn_reason}" if stored.withdrawn_reason else ""
    when = f"{stored.withdrawn:%Y-%m-%d %H:%M:%S}"
    return (
        f"{stored.product} of {stored.obs_id}, version {stored.version}, "
        f"was withdrawn on {when} UTC{reason}"
    )


def _not_found_detail(
    connection: sa.Connection, product: str, obs_id: str, version: int | None
) -> str:
    table = PRODUCTS.c
    newest = connection.scalar(
        sa.select(sa.func.max(table.version)).where(
            table.product == product, table.obs_id == obs_id
        )
    )
    if newest is not None and version is None:
        return f"{product} of {obs_id}: all of its versions (1 to {newest}) were withdrawn"
    if newest is not None:
        return f"{product} of {obs_id} has no version {version} (available: 1 to {newest})"
    names = connection.scalars(
        sa.select(table.product)
        .where(table.obs_id == obs_id)
        .distinct()
        .order_by(table.product)
        .limit(MAX_LISTED_NAMES + 1)
    ).all()
    shown = ", ".join(names[:MAX_LISTED_NAMES]) + (", ..." if len(names) > MAX_LISTED_NAMES else "")
    return f"{product} of {obs_id}: not found (available for {obs_id}: {shown or 'nothing'})"
