"""When the current attempt of a processing was found to be overdue."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    op.add_column("conductor_processings", sa.Column("overdue_since", sa.Float()))
