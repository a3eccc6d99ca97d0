"""When a product was first heard of: waits may be counted from there."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("conductor_available", sa.Column("since", sa.Float()))
