"""What is available, every processing, and what is held."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "conductor_about",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "conductor_available",
        sa.Column("obs_id", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("heard", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("obs_id", "product"),
    )
    op.create_table(
        "conductor_holds",
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("provider"),
    )
    op.create_table(
        "conductor_processings",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("obs_id", sa.String(), nullable=False),
        sa.Column("claim", sa.String(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("pipeline_attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("timeout_s", sa.Float(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("ask_at", sa.Float(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("requested", sa.Float(), nullable=True),
        sa.Column("started", sa.Float(), nullable=True),
        sa.Column("ended", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("product", "obs_id", "claim", name="conductor_claimed_once"),
    )
    op.create_index(
        "conductor_due",
        "conductor_processings",
        [sa.literal_column("priority DESC"), "created"],
        unique=False,
        sqlite_where=sa.text("state IN ('waiting', 'retrying')"),
        postgresql_where=sa.text("state IN ('waiting', 'retrying')"),
    )
    op.create_index(
        "conductor_followed",
        "conductor_processings",
        ["ask_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('requested', 'queued', 'running')"),
        postgresql_where=sa.text("state IN ('requested', 'queued', 'running')"),
    )
    op.create_index(
        "conductor_later",
        "conductor_processings",
        ["not_before"],
        unique=False,
        sqlite_where=sa.text("state IN ('waiting', 'retrying')"),
        postgresql_where=sa.text("state IN ('waiting', 'retrying')"),
    )
    op.create_index("conductor_newest", "conductor_processings", ["created", "id"], unique=False)
    op.create_index("conductor_of_observation", "conductor_processings", ["obs_id"], unique=False)
