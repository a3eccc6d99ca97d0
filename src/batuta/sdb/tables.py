"""The tables of the sdb, for SQLite and PostgreSQL alike."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from batuta.messaging.events import DATA_TYPE
from batuta.stages import FINAL_RANK, Stage, rank_of, stage_of

METADATA: Final = sa.MetaData()
MIGRATIONS: Final = Path(__file__).parent / "migrations"

BIG_ID: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite assigns row ids only to a primary key of type INTEGER."""


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An instant in UTC; SQLite stores no time zone, so it is restored here."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: sa.Dialect) -> datetime | None:
        """Convert to UTC."""
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> datetime | None:
        """Return an aware datetime in UTC."""
        if not isinstance(value, datetime):
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class StageRank(sa.TypeDecorator[Stage]):
    """A stage, stored as its rank so that databases compare it; NULL where none was told."""

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value: Stage | None, _dialect: sa.Dialect) -> int | None:
        """Return the rank of a stage."""
        return None if value is None else rank_of(value)

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> Stage | None:
        """Return the stage of a rank."""
        return None if value is None else stage_of(value)


PRODUCTS: Final = sa.Table(
    "products",
    METADATA,
    sa.Column("id", BIG_ID, primary_key=True),
    sa.Column("product", sa.String(128), nullable=False),
    sa.Column("obs_id", sa.String(128), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("media_type", sa.String(255), nullable=False),
    sa.Column("filename", sa.String(255)),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("provider", sa.String(128)),
    sa.Column("processing_id", sa.String(200)),
    sa.Column("attempt", sa.Integer),
    sa.Column("inputs", sa.JSON, nullable=False),
    # The version of the code that made it, and of the graph under which it was asked for.
    sa.Column("code", sa.String(200)),
    sa.Column("graph_version", sa.String(200)),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("withdrawn", UtcDateTime),
    sa.Column("withdrawn_reason", sa.String(400)),
    sa.Column("stage", StageRank),
    sa.UniqueConstraint("product", "obs_id", "version", name="one_record_per_version"),
)

_IMPORTED_BY_PROCESSING: Final = sa.and_(
    PRODUCTS.c.processing_id.is_not(None), PRODUCTS.c.withdrawn.is_(None)
)

# A processing whose product was withdrawn may be run again, and then imports the next version.
sa.Index(
    "one_import_per_processing",
    PRODUCTS.c.processing_id,
    PRODUCTS.c.product,
    unique=True,
    sqlite_where=_IMPORTED_BY_PROCESSING,
    postgresql_where=_IMPORTED_BY_PROCESSING,
)

# A condition that names the processing alone, withdrawn or not, is not served by the unique index.
_OF_PROCESSING: Final = PRODUCTS.c.processing_id.is_not(None)
sa.Index(
    "products_by_processing",
    PRODUCTS.c.processing_id,
    sqlite_where=_OF_PROCESSING,
    postgresql_where=_OF_PROCESSING,
)

LISTED: Final = "version >= 1"
"""True of every row. The index of a list holds for it, and lists say it: nothing else uses it.

SQLite, which has no statistics, would take it to find one version of a product.
"""

# In the order of lists, so that a page of what one of these selects is read, and not sorted.
sa.Index("products_of_observation", PRODUCTS.c.obs_id, PRODUCTS.c.id)
sa.Index(
    "products_of_product",
    PRODUCTS.c.product,
    PRODUCTS.c.id,
    sqlite_where=sa.text(LISTED),
    postgresql_where=sa.text(LISTED),
)
sa.Index(
    "products_withdrawn",
    PRODUCTS.c.id,
    sqlite_where=PRODUCTS.c.withdrawn.is_not(None),
    postgresql_where=PRODUCTS.c.withdrawn.is_not(None),
)

CONTENTS: Final = sa.Table(
    "contents",
    METADATA,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
"""The bytes of small files, addressed as those in the store are."""

QUICKLOOKS: Final = sa.Table(
    "quicklooks",
    METADATA,
    sa.Column("product", sa.String(128), primary_key=True),
    sa.Column("obs_id", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    # Of the picture; NULL where the file cannot be drawn.
    sa.Column("sha256", sa.String(64)),
    sa.Column("size", sa.BigInteger),
    sa.Column("media_type", sa.String(64)),
    # Why it cannot.
    sa.Column("problem", sa.String(400)),
    # The version of what has drawn it, or tried to; NULL where it came with the product.
    sa.Column("drawer", sa.String(64)),
)
"""The pictures of versions, whose bytes are where those of products are."""

OUTBOX: Final = sa.Table(
    "outbox",
    METADATA,
    sa.Column("id", BIG_ID, primary_key=True),
    sa.Column("event_id", sa.String(400), nullable=False),
    sa.Column("type", sa.String(64), nullable=False, server_default=DATA_TYPE),
    sa.Column("event", sa.JSON, nullable=False),
)


USAGE: Final = sa.Table(
    "usage",
    sa.MetaData(),
    sa.Column("product", sa.String(128), primary_key=True),
    sa.Column("bytes", sa.BigInteger, nullable=False),
)
"""What the versions of each product have in bytes, kept by triggers.

Not among the tables that are copied: what is copied to another database is summed there."""

UPLOADS: Final = sa.Table(
    "uploads",
    sa.MetaData(),
    sa.Column("id", sa.String(32), primary_key=True),
    # The name of the token that has created it; NULL where it has none.
    sa.Column("owner", sa.String(200)),
    # By which its sender finds it again.
    sa.Column("fingerprint", sa.String(64)),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("fields", sa.JSON, nullable=False),
    # Of the file, on the disk; then the digest that follows it.
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("appended", sa.String(64), nullable=False),
    sa.Column("quicklook", sa.LargeBinary),
    sa.Column("expires", UtcDateTime, nullable=False),
    sa.Column("product", sa.String(128), nullable=False),
    sa.Column("obs_id", sa.String(128), nullable=False),
    # What it was imported as.
    sa.Column("version", sa.Integer),
    sa.Column("is_new", sa.Boolean),
    sa.Index("uploads_by_expiry", "expires"),
    sa.Index("uploads_by_fingerprint", "fingerprint"),
)
"""Uploads that may be resumed. Not among the tables that are copied: their bytes are not."""


def rank(columns: Any) -> sa.ColumnElement[int]:
    """Return the rank of the stage of a version, by the columns of `PRODUCTS` or of an alias."""
    return sa.func.coalesce(sa.type_coerce(columns.stage, sa.Integer), sa.literal(FINAL_RANK))


def newer_versions(*, withdrawn: bool = False) -> sa.Select[Any]:
    """Select the newer versions of a row of `PRODUCTS` that count, to be correlated with it.

    A version of a higher stage is newer, whenever it was imported. With `withdrawn`, those that
    were withdrawn count too.
    """
    newer, table = PRODUCTS.alias("newer"), PRODUCTS.c
    versions = sa.select(newer.c.id).where(
        newer.c.product == table.product,
        newer.c.obs_id == table.obs_id,
        sa.tuple_(rank(newer.c), newer.c.version) > sa.tuple_(rank(table), table.version),
    )
    return versions if withdrawn else versions.where(newer.c.withdrawn.is_(None))
