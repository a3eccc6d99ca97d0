"""When failed attempts were requested and started; indexes of what waits for a person."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"

PENDING = "state = 'pending'"
UNAPPROVED = "state = 'unapproved'"


def upgrade() -> None:
    for name in ("requested", "started"):
        op.add_column("conductor_history", sa.Column(name, sa.Float()))
    op.create_index(
        "conductor_unapproved",
        "conductor_processings",
        ["work_class", "provider", "product", "campaign", "obs_id"],
        sqlite_where=sa.text(UNAPPROVED),
        postgresql_where=sa.text(UNAPPROVED),
    )
    op.create_index(
        "conductor_to_approve_by_gate",
        "conductor_approvals",
        ["gate", "number"],
        sqlite_where=sa.text(PENDING),
        postgresql_where=sa.text(PENDING),
    )
