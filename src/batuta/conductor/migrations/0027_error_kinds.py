"""What errors have in common with like ones, by which failures are grouped."""

import sqlalchemy as sa
from alembic import op

from batuta.conductor.decisions.failures import kind_of_error

revision = "0027"
down_revision = "0026"

FAILING = "state IN ('failed', 'retrying')"
BATCH = 1000
ROWS = sa.table(
    "conductor_processings",
    sa.column("id", sa.String),
    sa.column("obs_id", sa.String),
    sa.column("error", sa.String),
    sa.column("error_kind", sa.String),
)


def upgrade() -> None:
    op.add_column(
        "conductor_processings",
        sa.Column("error_kind", sa.String(), nullable=False, server_default=""),
    )
    connection = op.get_bind()
    query = sa.select(ROWS).where(ROWS.c.error.is_not(None), ROWS.c.id > sa.bindparam("after"))
    query = query.order_by(ROWS.c.id).limit(BATCH)
    change = sa.update(ROWS).where(ROWS.c.id == sa.bindparam("of"))
    change = change.values(error_kind=sa.bindparam("kind"))
    after = ""
    while rows := connection.execute(query, {"after": after}).all():
        kinds = [
            {"of": row.id, "kind": kind_of_error(row.error, (row.id, row.obs_id))} for row in rows
        ]
        connection.execute(change, kinds)
        after = rows[-1].id
    op.create_index(
        "conductor_failing",
        "conductor_processings",
        ["provider", "error_kind", "product", "state", "ended", "requested"],
        sqlite_where=sa.text(FAILING),
        postgresql_where=sa.text(FAILING),
    )
