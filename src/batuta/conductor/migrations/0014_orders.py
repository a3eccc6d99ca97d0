"""What operators have ordered, and who they are."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "conductor_orders",
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("operator", sa.String(), nullable=True),
        sa.Column("proved", sa.Boolean(), nullable=False),
        sa.Column("command", sa.String(), nullable=False),
        sa.Column("about", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("selected", sa.Integer(), nullable=False),
        sa.Column("changed", sa.Integer(), nullable=False),
        sa.Column("position", sa.String(), nullable=True),
        sa.Column("ended", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
    )
    under_way = sa.text("ended IS NULL")
    op.create_index(
        "conductor_orders_under_way",
        "conductor_orders",
        ["number"],
        sqlite_where=under_way,
        postgresql_where=under_way,
    )
