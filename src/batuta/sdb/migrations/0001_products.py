"""Products, and the outbox of their announcements."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "products",
        sa.Column("id", _ID, primary_key=True),
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
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("product", "obs_id", "version", name="one_record_per_version"),
    )
    imported = sa.text("processing_id IS NOT NULL")
    op.create_index(
        "one_import_per_processing",
        "products",
        ["processing_id", "product"],
        unique=True,
        sqlite_where=imported,
        postgresql_where=imported,
    )
    op.create_index("products_by_observation", "products", ["obs_id", "product"])
    op.create_table(
        "outbox",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("event_id", sa.String(400), nullable=False),
        sa.Column("event", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("outbox")
    op.drop_table("products")
