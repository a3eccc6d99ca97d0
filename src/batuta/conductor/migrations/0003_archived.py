"""Whether the sdb holds what is available, and which successes are to be made again."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


# Of what is recorded already it is not known whether the sdb holds it. It becomes known as the sdb
# announces, and `batuta reconcile` compares what the graph makes in any case.


def upgrade() -> None:
    op.add_column(
        "conductor_available",
        sa.Column("archived", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column(
        "conductor_processings",
        sa.Column("remake", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
