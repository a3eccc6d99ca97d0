"""What reports of a span of time are read from: by when it happened, without a search."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"

LATE = """
INSERT INTO conductor_incidents (at, what, obs_id, product, reason)
SELECT {time}, '{what}', obs_id, product, NULL FROM conductor_deadlines WHERE {time} IS NOT NULL
"""


def upgrade() -> None:
    op.create_table(
        "conductor_incidents",
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("obs_id", sa.String(), nullable=True),
        sa.Column("product", sa.String(), nullable=True),
        sa.Column("provider", sa.String(), nullable=True),
        sa.Column("instance", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("conductor_incidents_at", "conductor_incidents", ["at"])
    op.create_index("conductor_incidents_of", "conductor_incidents", ["obs_id"])
    for what, time in (("late", "late_since"), ("expired", "expired")):
        op.execute(LATE.format(what=what, time=time))
    _index("conductor_ended", "conductor_processings", ["ended", "created"], "ended IS NOT NULL")
    _index("conductor_campaigns_ended", "conductor_campaigns", ["ended"], "ended IS NOT NULL")
    for table, column in (
        ("history", "at"),
        ("orders", "at"),
        ("holds", "placed"),
        ("holds", "released"),
    ):
        op.create_index(f"conductor_{table}_{column}", f"conductor_{table}", [column])
    op.add_column(
        "conductor_dropped",
        sa.Column("last_news", sa.Float(), nullable=False, server_default="0"),
    )
    # When they were dropped is the latest that it can have been.
    op.execute("UPDATE conductor_dropped SET last_news = archived")
    op.create_index("conductor_dropped_last_news", "conductor_dropped", ["last_news"])


def _index(name: str, table: str, columns: list[str], rows: str) -> None:
    where = sa.text(rows)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
