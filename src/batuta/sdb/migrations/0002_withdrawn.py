"""Versions that were withdrawn: when, and why."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("products", sa.Column("withdrawn", sa.DateTime(timezone=True)))
    op.add_column("products", sa.Column("withdrawn_reason", sa.String(400)))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("products", "withdrawn_reason")
    op.drop_column("products", "withdrawn")
