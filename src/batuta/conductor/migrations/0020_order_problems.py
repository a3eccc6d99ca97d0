"""Which providers could not be told of an order that was given for a set."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.add_column("conductor_orders", sa.Column("problem", sa.String()))
