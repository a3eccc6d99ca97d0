"""What waits for a person's approval, and what was decided."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column(
        "conductor_processings",
        sa.Column("approved", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_table(
        "conductor_approvals",
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("obs_id", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("gate", sa.String(), nullable=False),
        sa.Column("processing_id", sa.String(), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.Column("archived", sa.Boolean(), nullable=False),
        sa.Column("told_class", sa.String(), nullable=True),
        sa.Column("asked", sa.Float(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=True),
        sa.Column("decided", sa.Float(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("obs_id", "product", "version", name="conductor_approved_once"),
    )
    pending = sa.text("state = 'pending'")
    op.create_index(
        "conductor_to_approve",
        "conductor_approvals",
        ["number"],
        sqlite_where=pending,
        postgresql_where=pending,
    )
