"""By when products are due, and when they expire."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_INDEXES = (
    ("due", ["due"], "due IS NOT NULL AND late_since IS NULL"),
    ("expires", ["expires"], "expires IS NOT NULL AND expired IS NULL"),
    ("late", ["due", "obs_id", "product"], "late_since IS NOT NULL AND expired IS NULL"),
)


def upgrade() -> None:
    op.create_table(
        "conductor_deadlines",
        sa.Column("obs_id", sa.String(), primary_key=True),
        sa.Column("product", sa.String(), primary_key=True),
        sa.Column("due", sa.Float()),
        sa.Column("expires", sa.Float()),
        sa.Column("late_since", sa.Float()),
        sa.Column("expired", sa.Float()),
    )
    for name, columns, rows in _INDEXES:
        op.create_index(
            f"conductor_deadlines_{name}",
            "conductor_deadlines",
            columns,
            sqlite_where=sa.text(rows),
            postgresql_where=sa.text(rows),
        )
