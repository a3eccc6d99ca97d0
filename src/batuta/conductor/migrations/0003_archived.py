"""Whether the sdb holds what is available, and which successes are to be made again."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column(
        "conductor_available",
        sa.Column("archived", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column(
        "conductor_processings",
        sa.Column("remake", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    # Until now only the sdb was known to number versions.
    op.execute("UPDATE conductor_available SET archived = (version > 0)")
