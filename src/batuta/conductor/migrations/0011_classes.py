"""The class of each processing, and the one that was told of what is available."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("conductor_available", sa.Column("told_class", sa.String()))
    op.add_column(
        "conductor_processings",
        sa.Column("work_class", sa.String(), nullable=False, server_default="live"),
    )
    op.add_column("conductor_processings", sa.Column("told_class", sa.String()))
    op.drop_index("conductor_due", "conductor_processings")
    pending = sa.text("state IN ('waiting', 'retrying')")
    op.create_index(
        "conductor_due",
        "conductor_processings",
        ["work_class", sa.literal_column("priority DESC"), "created"],
        sqlite_where=pending,
        postgresql_where=pending,
    )
