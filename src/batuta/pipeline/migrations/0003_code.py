"""The version of the code that a processing was run with."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("pipeline_processings", sa.Column("code", sa.String()))
