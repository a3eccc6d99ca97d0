"""What is due at one provider is found without reading what is due at others."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.drop_index("conductor_due", "conductor_processings")
    pending = sa.text("state IN ('waiting', 'retrying')")
    op.create_index(
        "conductor_due",
        "conductor_processings",
        ["work_class", "provider", sa.literal_column("priority DESC"), "created"],
        sqlite_where=pending,
        postgresql_where=pending,
    )
