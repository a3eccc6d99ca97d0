"""Withdrawals are announced; a processing whose product was withdrawn may import another."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the type of announcements; leave what was withdrawn out of the index."""
    op.add_column(
        "outbox",
        sa.Column("type", sa.String(64), nullable=False, server_default="batuta.data.available"),
    )
    _replace_index("processing_id IS NOT NULL AND withdrawn IS NULL")


def downgrade() -> None:
    """Undo both; fails where a processing has imported again what was withdrawn."""
    _replace_index("processing_id IS NOT NULL")
    op.drop_column("outbox", "type")


def _replace_index(where: str) -> None:
    op.drop_index("one_import_per_processing", "products")
    op.create_index(
        "one_import_per_processing",
        "products",
        ["processing_id", "product"],
        unique=True,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
