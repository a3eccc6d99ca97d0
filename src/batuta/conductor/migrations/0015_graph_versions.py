"""The graphs that were put in force, and by which of them processings were decided about."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "conductor_graph_versions",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("applied", sa.Float(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("note", sa.String()),
        sa.Column("work_class", sa.String()),
        sa.Column("settled", sa.Float()),
        sa.Column("settled_to", sa.String()),
    )
    op.add_column("conductor_processings", sa.Column("graph_version", sa.Integer()))
    op.add_column("conductor_processings", sa.Column("set_aside", sa.Integer()))
