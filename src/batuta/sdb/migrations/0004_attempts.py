"""The attempt that imported a product: what tells a processing run again from a repeated import."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column."""
    op.add_column("products", sa.Column("attempt", sa.Integer))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("products", "attempt")
