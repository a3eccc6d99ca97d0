"""What became of each event that was received."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "conductor_events",
        sa.Column("received", sa.Float(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=True),
        sa.Column("obs_id", sa.String(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("triggered", sa.String(), nullable=True),
        sa.Column("waiting", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("received", "sequence"),
        sqlite_with_rowid=False,
    )
    op.create_index("conductor_events_by_id", "conductor_events", ["id"])
    op.create_index("conductor_events_of", "conductor_events", ["obs_id", "received", "sequence"])
    for outcome in ("ignored", "waiting"):
        where = sa.text(f"outcome = '{outcome}'")
        op.create_index(
            f"conductor_events_{outcome}",
            "conductor_events",
            ["received", "sequence"],
            sqlite_where=where,
            postgresql_where=where,
        )
