"""The table of processings. Times are seconds since 1970 in UTC."""

from pathlib import Path
from typing import Final

import sqlalchemy as sa

MIGRATIONS: Final = Path(__file__).parent / "migrations"

WITH_FILES: Final = "log_kept"
"""Whose log and profile have not been removed."""

metadata = sa.MetaData()

processings = sa.Table(
    "pipeline_processings",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    # Names its files; ids come from outside and never become paths.
    sa.Column("key", sa.String, nullable=False, unique=True),
    sa.Column("provider", sa.String, nullable=False),
    sa.Column("product", sa.String, nullable=False),
    sa.Column("obs_id", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    # How many times the service died while it ran, at this attempt.
    sa.Column("restarts", sa.Integer, nullable=False),
    sa.Column("runs", sa.Integer, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("error", sa.String),
    sa.Column("inputs", sa.JSON, nullable=False),
    # The versions that it was asked to be made from, if it was told, and under which graph.
    sa.Column("given", sa.JSON(none_as_null=True)),
    sa.Column("graph_version", sa.String),
    # The rank of the stage of what it makes. None: none is told.
    sa.Column("stage", sa.Integer),
    sa.Column("outputs", sa.JSON, nullable=False),
    sa.Column("started", sa.Float),
    sa.Column("ended", sa.Float),
    sa.Column("log_kept", sa.Boolean, nullable=False),
    sa.Column("profile_kept", sa.Boolean, nullable=False, server_default=sa.false()),
    # The version of the code that it was run with last.
    sa.Column("code", sa.String),
    # The file of the archive that its record is going to, while it is being dropped.
    sa.Column("archive_file", sa.String),
    sa.Index("pipeline_by_state", "state", "number"),
    sa.Index("pipeline_by_obs_id", "obs_id", "number"),
    sa.Index(
        "pipeline_with_files",
        "ended",
        sqlite_where=sa.text(WITH_FILES),
        postgresql_where=sa.text(WITH_FILES),
    ),
    sa.Index(
        "pipeline_ended",
        "ended",
        sqlite_where=sa.text("ended IS NOT NULL"),
        postgresql_where=sa.text("ended IS NOT NULL"),
    ),
)

# What stays of a processing that succeeded and whose record was dropped: a request that is
# repeated must not run it again.
dropped = sa.Table(
    "pipeline_dropped",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("provider", sa.String, nullable=False),
    sa.Column("product", sa.String, nullable=False),
    sa.Column("obs_id", sa.String, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("ended", sa.Float, nullable=False),
)
