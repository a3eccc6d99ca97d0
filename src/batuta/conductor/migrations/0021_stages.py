"""The stages of what is available or waits for approval, of processings and of events."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TABLES = ("conductor_available", "conductor_processings", "conductor_events", "conductor_approvals")


def upgrade() -> None:
    """Add them; of what was recorded before, none is told."""
    for table in TABLES:
        op.add_column(table, sa.Column("stage", sa.Integer))


def downgrade() -> None:
    """Drop them."""
    for table in TABLES:
        op.drop_column(table, "stage")
