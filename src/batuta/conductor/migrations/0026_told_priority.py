"""The priority that an operator, or a campaign, has told for a processing."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.add_column("conductor_processings", sa.Column("told_priority", sa.Integer()))
    op.execute(
        "UPDATE conductor_processings SET told_priority = priority WHERE campaign IN "
        "(SELECT number FROM conductor_campaigns WHERE priority IS NOT NULL)"
    )
