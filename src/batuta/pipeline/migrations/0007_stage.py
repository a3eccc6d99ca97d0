"""The stage of what processings make."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add it; of what was asked for before, none was told."""
    op.add_column("pipeline_processings", sa.Column("stage", sa.Integer))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("pipeline_processings", "stage")
