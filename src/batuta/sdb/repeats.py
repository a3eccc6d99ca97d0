"""Imports that were sent before: by the same processing, or the same file described the same.

What names a processing is told by it: a processing imports a product once, whatever its bytes, and
two processings that make the same bytes have a version each. What names none is told by its file
and by all that its record says.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from batuta.sdb.fields import ImportSubject
from batuta.sdb.new_product import NewProduct
from batuta.sdb.tables import PRODUCTS, QUICKLOOKS, rank
from batuta.stages import FINAL_RANK, rank_of

MAX_RECORDED_TOGETHER: Final = 250
"""Imports that share a statement: a bound on its parameters."""

# Built once: compiling these statements costs more than executing them.
_SELECT_BY_PROCESSING: Final = (
    sa.select(PRODUCTS)
    .where(PRODUCTS.c.processing_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(PRODUCTS.c.version)
)


def _select_newest() -> sa.Select[Any]:
    """Select the newest version that each import may repeat, however many versions there are.

    One parameter has all questions, so that the statement is the same for any number of them:
    SQLite and PostgreSQL both make a row of each member of a JSON object.
    """
    asked = sa.func.json_each(sa.bindparam("asked", type_=sa.JSON)).table_valued(
        "key", sa.column("value", sa.JSON), name="asked"
    )
    value, version = asked.c.value, PRODUCTS.alias("of_stage")
    newest = (
        sa.select(version.c.id)
        .where(
            version.c.product == value["product"].as_string(),
            version.c.obs_id == value["obs_id"].as_string(),
            rank(version.c) == value["rank"].as_integer(),
            version.c.withdrawn.is_(None),
        )
        .order_by(version.c.version.desc())
        .limit(1)
        .scalar_subquery()
    )
    table = PRODUCTS.c
    given = sa.and_(
        QUICKLOOKS.c.drawer.is_(None),
        *(QUICKLOOKS.c[name] == table[name] for name in ("product", "obs_id", "version")),
    )
    return (
        sa.select(asked.c.key.label("place"), PRODUCTS, QUICKLOOKS.c.sha256.label("picture"))
        .select_from(asked)
        .join(PRODUCTS, table.id == newest)
        .outerjoin(QUICKLOOKS, given)
    )


_SELECT_NEWEST: Final = _select_newest()


def imports_of_processings(
    connection: sa.Connection, news: Sequence[NewProduct]
) -> list[sa.Row[Any] | None]:
    """Return, for each of `news`, the last version of it that its processing has imported."""
    ids = [new.processing_id for new in news if new.processing_id is not None]
    rows = connection.execute(_SELECT_BY_PROCESSING, {"ids": ids}).all() if ids else ()
    newest = {(row.processing_id, row.product): row for row in rows}
    return [newest.get((new.processing_id, new.product)) for new in news]


def equal_newest_versions(
    connection: sa.Connection, news: Sequence[NewProduct]
) -> dict[int, sa.Row[Any]]:
    """Return, by place in `news`, the newest versions that are what is imported again.

    Of the stage that the import tells: a preliminary version that comes after a final one is not
    the newest of all, and may be sent again as well. What was withdrawn is imported anew.
    """
    asked = {
        str(place): {
            "product": new.product,
            "obs_id": new.obs_id,
            "rank": FINAL_RANK if new.stage is None else rank_of(new.stage),
        }
        for place, new in enumerate(news)
        if new.processing_id is None
    }
    if not asked:
        return {}
    rows = connection.execute(_SELECT_NEWEST, {"asked": asked})
    return {int(row.place): row for row in rows if _is_repeated_by(news[int(row.place)], row)}


def may_repeat(connection: sa.Connection, subject: ImportSubject, size: int) -> bool:
    """Return whether an import of so many bytes may repeat another, by what is known before it."""
    table = PRODUCTS.c
    query = sa.select(table.id).where(table.product == subject.product)
    if subject.processing_id is not None:
        query = query.where(table.processing_id == subject.processing_id)
    else:
        query = query.where(
            table.obs_id == subject.obs_id,
            table.size == size,
            table.processing_id.is_(None),
            table.withdrawn.is_(None),
        )
    return connection.execute(query.limit(1)).first() is not None


def without_repeats(news: Sequence[NewProduct]) -> Iterator[list[NewProduct]]:
    """Split `news` into batches in which none decides what another repeats.

    What names a processing repeats an import of that one alone; what names none, the newest
    version, which is that of whatever was imported before it.
    """
    batch: list[NewProduct] = []
    of_processings: set[tuple[str | None, str]] = set()
    newest: set[tuple[str, str]] = set()
    for new in news:
        by_processing, instance = (new.processing_id, new.product), (new.product, new.obs_id)
        named = new.processing_id is not None
        decided = by_processing in of_processings if named else instance in newest
        if decided or len(batch) == MAX_RECORDED_TOGETHER:
            yield batch
            batch, of_processings, newest = [], set(), set()
        batch.append(new)
        of_processings.add(by_processing)
        newest.add(instance)
    if batch:
        yield batch


def _is_repeated_by(new: NewProduct, row: sa.Row[Any]) -> bool:
    """Return whether an import has the bytes of a version, and its record would say the same."""
    if new.sha256 != row.sha256:
        return False
    picture = new.quicklook.sha256 if new.quicklook is not None else None
    recorded = row._mapping
    return picture == row.picture and all(
        _is_same(given, recorded[name]) for name, given in new.described().items()
    )


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values are the same JSON: 1, 1.0 and true are equal in Python."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return bool(one == other)
