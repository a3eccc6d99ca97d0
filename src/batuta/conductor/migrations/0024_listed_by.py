"""Indexes of the lists of processings: by class, by stage and by campaign."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"

INDEXES = (
    ("work_class", "attempt >= 0"),
    ("stage", "stage IS NOT NULL"),
    ("campaign", "campaign IS NOT NULL"),
)


def upgrade() -> None:
    for column, rows in INDEXES:
        op.create_index(
            f"conductor_by_{column}",
            "conductor_processings",
            [column, "created", "id"],
            sqlite_where=sa.text(rows),
            postgresql_where=sa.text(rows),
        )
