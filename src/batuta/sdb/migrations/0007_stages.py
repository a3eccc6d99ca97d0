"""The stage of versions: how definitive they are."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; what was imported before has told none."""
    op.add_column("products", sa.Column("stage", sa.Integer))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("products", "stage")
