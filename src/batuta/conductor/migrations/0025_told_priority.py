"""The priority that an operator, or a campaign, has told for a processing."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.add_column("conductor_processings", sa.Column("told_priority", sa.Integer()))
    op.execute(
        "UPDATE conductor_processings SET told_priority = priority WHERE campaign IN "
        "(SELECT number FROM conductor_campaigns WHERE priority IS NOT NULL)"
    )
