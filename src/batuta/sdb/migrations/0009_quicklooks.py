"""Quicklooks: a picture of a version, or why it has none."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create their table."""
    op.create_table(
        "quicklooks",
        sa.Column("product", sa.String(128), primary_key=True),
        sa.Column("obs_id", sa.String(128), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("sha256", sa.String(64)),
        sa.Column("size", sa.BigInteger),
        sa.Column("media_type", sa.String(64)),
        sa.Column("problem", sa.String(400)),
        sa.Column("drawer", sa.String(64)),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("quicklooks")
