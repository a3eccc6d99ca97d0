"""Indexes in the order of lists, and for what a processing has imported, withdrawn or not."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Replace an index, and add three."""
    op.drop_index("products_by_observation", "products")
    op.create_index("products_of_observation", "products", ["obs_id", "id"])
    for name, columns, where in (
        ("products_by_processing", ["processing_id"], "processing_id IS NOT NULL"),
        ("products_of_product", ["product", "id"], "version >= 1"),
        ("products_withdrawn", ["id"], "withdrawn IS NOT NULL"),
    ):
        op.create_index(
            name, "products", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )


def downgrade() -> None:
    """Undo it."""
    for name in ("products_by_processing", "products_of_product", "products_withdrawn"):
        op.drop_index(name, "products")
    op.drop_index("products_of_observation", "products")
    op.create_index("products_by_observation", "products", ["obs_id", "product"])
