"""The version of the code that an attempt ran."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("conductor_processings", sa.Column("code", sa.String()))
