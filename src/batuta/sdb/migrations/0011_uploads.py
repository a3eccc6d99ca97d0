"""Uploads that are resumed: what was said of each, and how much of it was received."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Create their table."""
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(200)),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("fields", sa.JSON, nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("appended", sa.String(64), nullable=False),
        sa.Column("quicklook", sa.LargeBinary),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.Column("product", sa.String(128), nullable=False),
        sa.Column("obs_id", sa.String(128), nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("is_new", sa.Boolean),
    )
    op.create_index("uploads_by_expiry", "uploads", ["expires"])
    op.create_index("uploads_by_fingerprint", "uploads", ["fingerprint"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("uploads")
