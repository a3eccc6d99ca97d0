"""Holds of any work, from a time on, with who placed them and why, and releases at a rate."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

PROCESSINGS = sa.table(
    "conductor_processings", sa.column("state"), sa.column("provider"), sa.column("held_by")
)


def upgrade() -> None:
    connection = op.get_bind()
    placed = connection.execute(
        sa.text("SELECT provider, since FROM conductor_holds ORDER BY since, provider")
    ).all()
    op.drop_table("conductor_holds")
    table = _create_holds()
    op.add_column("conductor_processings", sa.Column("held_by", sa.Integer()))
    for number, (name, since) in enumerate(placed, start=1):
        provider = None if name == "*" else name
        values = {"provider": provider, "begins": since, "placed": since}
        connection.execute(sa.insert(table).values(**values, by="operator", applied=False))
        held = sa.update(PROCESSINGS).where(
            PROCESSINGS.c.state == "held", PROCESSINGS.c.held_by.is_(None)
        )
        if provider is not None:
            held = held.where(PROCESSINGS.c.provider == provider)
        connection.execute(held.values(held_by=number))
    op.execute(
        "UPDATE conductor_processings SET state = 'waiting' "
        "WHERE state = 'held' AND held_by IS NULL"
    )
    _index("conductor_held_by", ["held_by", "work_class", sa.text("priority DESC"), "created"])
    _index("conductor_held", ["work_class", "provider", "product", "obs_id"])


def _index(name: str, columns: Sequence[str | sa.TextClause]) -> None:
    held = sa.text("state = 'held'")
    op.create_index(
        name, "conductor_processings", columns, sqlite_where=held, postgresql_where=held
    )


def _create_holds() -> sa.Table:
    table = op.create_table(
        "conductor_holds",
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("provider", sa.String()),
        sa.Column("product", sa.String()),
        sa.Column("obs_id", sa.String()),
        sa.Column("work_class", sa.String()),
        sa.Column("begins", sa.Float(), nullable=False),
        sa.Column("placed", sa.Float(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("reason", sa.String()),
        sa.Column("applied", sa.Boolean(), nullable=False),
        sa.Column("released", sa.Float()),
        sa.Column("released_by", sa.String()),
        sa.Column("release_reason", sa.String()),
        sa.Column("rate", sa.String()),
        sa.Column("next_at", sa.Float()),
        sa.Column("ended", sa.Float()),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("conductor_holds_ended", "conductor_holds", ["ended"])
    return table
