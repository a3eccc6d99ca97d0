"""The versions of the code and of the graph that a product was made by."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("products", sa.Column("code", sa.String(200)))
    op.add_column("products", sa.Column("graph_version", sa.String(200)))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("products", "graph_version")
    op.drop_column("products", "code")
