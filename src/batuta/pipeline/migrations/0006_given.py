"""The versions that a processing is to be made from, and the graph's version."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("pipeline_processings", sa.Column("given", sa.JSON))
    op.add_column("pipeline_processings", sa.Column("graph_version", sa.String))
