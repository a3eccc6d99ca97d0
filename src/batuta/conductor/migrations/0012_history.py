"""The attempts of a processing that failed, and what operators have ordered for it."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "conductor_history",
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("obs_id", sa.String(), nullable=False),
        sa.Column("processing_id", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("conductor_history_of", "conductor_history", ["obs_id", "number"])
