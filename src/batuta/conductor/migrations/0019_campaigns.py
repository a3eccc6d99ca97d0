"""Campaigns: what was planned, what has begun, what became of it."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.add_column("conductor_processings", sa.Column("campaign", sa.Integer()))
    of_campaign = sa.text("campaign IS NOT NULL")
    op.create_index(
        "conductor_of_campaign",
        "conductor_processings",
        ["campaign", "state"],
        sqlite_where=of_campaign,
        postgresql_where=of_campaign,
    )
    op.create_table(
        "conductor_campaigns",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String()),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String()),
        sa.Column("selection", sa.JSON(), nullable=False),
        sa.Column("graph", sa.String(), nullable=False),
        sa.Column("work_class", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer()),
        sa.Column("max_concurrent", sa.Integer(), nullable=False),
        sa.Column("plan", sa.JSON()),
        sa.Column("report", sa.JSON()),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("touched", sa.Float(), nullable=False),
        sa.Column("started", sa.Float()),
        sa.Column("ended", sa.Float()),
        sa.Column("ran_s", sa.Float(), nullable=False),
        sa.Column("running_since", sa.Float()),
        sa.PrimaryKeyConstraint("number"),
    )
    open_ = sa.text("ended IS NULL")
    op.create_index(
        "conductor_campaigns_open",
        "conductor_campaigns",
        ["number"],
        sqlite_where=open_,
        postgresql_where=open_,
    )
    op.create_table(
        "conductor_campaign_parts",
        sa.Column("campaign", sa.Integer(), nullable=False),
        sa.Column("dropped", sa.Boolean(), nullable=False),
        sa.Column("first", sa.String(), nullable=False),
        sa.Column("last", sa.String(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("campaign", "dropped", "first"),
    )
    op.create_table(
        "conductor_campaign_items",
        sa.Column("campaign", sa.Integer(), nullable=False),
        sa.Column("obs_id", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("processing_id", sa.String()),
        sa.Column("reason", sa.String()),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("campaign", "obs_id", "product"),
    )
    op.create_index(
        "conductor_campaign_items_by_state",
        "conductor_campaign_items",
        ["campaign", "state", "obs_id", "product"],
    )
    op.create_index(
        "conductor_campaign_items_of", "conductor_campaign_items", ["obs_id", "product"]
    )
    op.create_table(
        "conductor_campaign_counts",
        sa.Column("campaign", sa.Integer(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("campaign", "product", "state"),
    )
