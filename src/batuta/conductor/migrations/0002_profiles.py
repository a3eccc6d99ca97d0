"""Whether the pipeline of a processing keeps its profile."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column(
        "conductor_processings",
        sa.Column("profiled", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
