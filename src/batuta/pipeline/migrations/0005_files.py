"""An index of the processings whose files are kept."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_index(
        "pipeline_with_files",
        "pipeline_processings",
        ["ended"],
        sqlite_where=sa.text("log_kept"),
        postgresql_where=sa.text("log_kept"),
    )
