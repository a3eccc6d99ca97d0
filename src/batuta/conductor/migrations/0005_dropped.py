"""What stays of observations whose records were archived or dropped."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "conductor_dropped",
        sa.Column("obs_id", sa.String(), nullable=False),
        sa.Column("archived", sa.Float(), nullable=False),
        sa.Column("file", sa.String(), nullable=True),
        sa.Column("live", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("obs_id"),
    )
