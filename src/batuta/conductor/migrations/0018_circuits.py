"""How the instances of providers answer, and which of them a processing was sent to."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("conductor_processings", sa.Column("instance", sa.String()))
    op.create_table(
        "conductor_circuits",
        sa.Column("provider", sa.String(), primary_key=True),
        sa.Column("instance", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("opened_by", sa.String()),
        sa.Column("since", sa.Float()),
        sa.Column("retry_at", sa.Float()),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String()),
        sa.Column("trial", sa.String()),
        sa.Column("unanswered", sa.JSON(), nullable=False),
        sa.Column("unanswered_since", sa.Float()),
        sa.Column("failed", sa.JSON(), nullable=False),
        sa.Column("full_until", sa.Float()),
        sa.Column("quiet_until", sa.Float()),
        sa.Column("lost", sa.Float()),
    )
