"""What a processing was claimed from while earlier attempts were requested."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    op.add_column(
        "conductor_processings",
        sa.Column("earlier_attempts", sa.Integer(), nullable=False, server_default="0"),
    )
    op.add_column("conductor_processings", sa.Column("earlier_inputs", sa.JSON()))
