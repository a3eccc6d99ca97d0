"""The tables of campaigns. Times are seconds since 1970."""

from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.schema import HAS_ENDED, metadata

OPEN_CAMPAIGN: Final = "ended IS NULL"
UNSETTLED_ITEM: Final = "state IN ('blocked', 'ready', 'awaiting', 'open')"

campaigns = sa.Table(
    "conductor_campaigns",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("name", sa.String),
    sa.Column("state", sa.String, nullable=False),
    # Why it was cancelled, or ended before all was made.
    sa.Column("reason", sa.String),
    # As it was ordered, without the names of observations: JSON.
    sa.Column("selection", sa.JSON, nullable=False),
    # The digest of the graph that it was planned with.
    sa.Column("graph", sa.String, nullable=False),
    sa.Column("work_class", sa.String, nullable=False),
    sa.Column("priority", sa.Integer),
    sa.Column("max_concurrent", sa.Integer, nullable=False),
    # What it will make, and at its end what became of that: JSON.
    sa.Column("plan", sa.JSON),
    sa.Column("report", sa.JSON),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    # While it is planned: when that was last heard of.
    sa.Column("touched", sa.Float, nullable=False),
    sa.Column("started", sa.Float),
    sa.Column("ended", sa.Float),
    # How long it ran before `running_since`, without pauses.
    sa.Column("ran_s", sa.Float, nullable=False),
    sa.Column("running_since", sa.Float),
    sa.Index(
        "conductor_campaigns_open",
        "number",
        sqlite_where=sa.text(OPEN_CAMPAIGN),
        postgresql_where=sa.text(OPEN_CAMPAIGN),
    ),
    sa.Index(
        "conductor_campaigns_ended",
        "ended",
        sqlite_where=sa.text(HAS_ENDED),
        postgresql_where=sa.text(HAS_ENDED),
    ),
)

# What has not begun yet, by the batch: a row for each observation would take as long to write as
# all that is to be made.
parts = sa.Table(
    "conductor_campaign_parts",
    metadata,
    sa.Column("campaign", sa.Integer, primary_key=True, autoincrement=False),
    # Of two passes: what the tables have of observations, and what stays of those that are dropped.
    sa.Column("dropped", sa.Boolean, primary_key=True),
    # The first and the last observation.
    sa.Column("first", sa.String, primary_key=True),
    sa.Column("last", sa.String, nullable=False),
    # Compressed: see `batuta.conductor.database.campaigns.campaign_parts`.
    sa.Column("content", sa.LargeBinary, nullable=False),
)

# What has begun, but for what was made.
items = sa.Table(
    "conductor_campaign_items",
    metadata,
    sa.Column("campaign", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("obs_id", sa.String, primary_key=True),
    sa.Column("product", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("processing_id", sa.String),
    sa.Column("reason", sa.String),
    sa.Column("at", sa.Float, nullable=False),
    sa.Index("conductor_campaign_items_by_state", "campaign", "state", "obs_id", "product"),
    sa.Index("conductor_campaign_items_of", "obs_id", "product"),
)

# How many items have ended, and how.
counts = sa.Table(
    "conductor_campaign_counts",
    metadata,
    sa.Column("campaign", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("product", sa.String, primary_key=True),
    sa.Column("state", sa.String, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
)
