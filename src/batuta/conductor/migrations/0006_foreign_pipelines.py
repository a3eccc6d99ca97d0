"""Under which id a pipeline knows an attempt, and what it has shown of the interface."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("conductor_processings", sa.Column("pipeline_id", sa.String()))
    op.add_column("conductor_processings", sa.Column("interface", sa.String()))
