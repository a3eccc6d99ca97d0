"""Whether the profile of a processing is kept."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column(
        "pipeline_processings",
        sa.Column("profile_kept", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
