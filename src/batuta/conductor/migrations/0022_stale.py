"""What is stale, the bytes and the makers of versions, and what was stopped by a withdrawal."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"

STALE = "stale_since IS NOT NULL"
UNTOLD = "stale_since IS NOT NULL AND stale_told IS NULL"


def upgrade() -> None:
    origins: tuple[sa.Column[str] | sa.Column[int], ...] = (
        sa.Column("made_by", sa.String()),
        sa.Column("sha256", sa.String()),
        sa.Column("content", sa.Integer()),
        sa.Column("updates", sa.Integer(), nullable=False, server_default="0"),
    )
    for origin in origins:
        op.add_column("conductor_available", origin)
    marks: tuple[sa.Column[float] | sa.Column[str], ...] = (
        sa.Column("stale_since", sa.Float()),
        sa.Column("stale_because", sa.String()),
        sa.Column("stale_told", sa.Float()),
        sa.Column("withdrawn_input", sa.String()),
    )
    for mark in marks:
        op.add_column("conductor_processings", mark)
    for name, rows, keys in (
        ("conductor_stale", STALE, ["created", "id"]),
        ("conductor_stale_untold", UNTOLD, ["stale_since"]),
    ):
        op.create_index(
            name,
            "conductor_processings",
            keys,
            sqlite_where=sa.text(rows),
            postgresql_where=sa.text(rows),
        )
    # What was made before is known by its newest processing that succeeded.
    op.execute(
        "UPDATE conductor_available SET made_by = (SELECT p.id FROM conductor_processings p"
        " WHERE p.obs_id = conductor_available.obs_id AND p.product = conductor_available.product"
        " AND p.state = 'succeeded' ORDER BY p.ended DESC LIMIT 1)"
    )
