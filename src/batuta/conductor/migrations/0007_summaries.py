"""What is counted, kept as it changes: reading a summary must not scan the history.

Triggers keep the summaries in the transaction of what they count, whoever writes: after a kill,
a deletion of old rows or a repair by hand they are as right as the rows.
"""

# ruff: noqa: S608  the statements are built of constants alone

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

COUNTED = "part, counted, product, provider, state, number"
KEY = "part, counted, product, provider, state"


def upgrade() -> None:
    op.create_table(
        "conductor_counts",
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("counted", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("part", "counted", "product", "provider", "state"),
    )
    op.create_table(
        "conductor_observations",
        sa.Column("obs_id", sa.String(), nullable=False),
        sa.Column("available", sa.Integer(), nullable=False),
        sa.Column("last_news", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("obs_id"),
    )
    _count_what_is_there()
    _index_lists()
    postgresql = op.get_bind().dialect.name == "postgresql"
    for statement in _postgresql_triggers() if postgresql else SQLITE_TRIGGERS:
        op.get_bind().exec_driver_sql(statement)


def _count_what_is_there() -> None:
    op.execute(
        "INSERT INTO conductor_observations (obs_id, available, last_news) "
        "SELECT obs_id, count(*), max(heard) FROM conductor_available GROUP BY obs_id"
    )
    for counted, table, columns in (
        ("processing", "conductor_processings", "product, provider, state"),
        ("available", "conductor_available", "product, '', ''"),
        ("observation", "conductor_observations", "'', '', ''"),
    ):
        grouped = ", ".join(each for each in columns.split(", ") if each != "''")
        op.execute(
            f"INSERT INTO conductor_counts ({COUNTED}) "
            f"SELECT 0, '{counted}', {columns}, count(*) FROM {table} "
            + (f"GROUP BY {grouped}" if grouped else "")
        )


def _index_lists() -> None:
    """Create an index in the order of each list, for keyset pagination."""
    op.drop_index("conductor_of_observation", "conductor_processings")
    op.create_index(
        "conductor_of_observation", "conductor_processings", ["obs_id", "created", "id"]
    )
    for column in ("product", "provider", "state"):
        op.create_index(
            f"conductor_by_{column}",
            "conductor_processings",
            [column, "created", "id"],
            sqlite_where=sa.text("attempt >= 0"),
            postgresql_where=sa.text("attempt >= 0"),
        )
    op.create_index("conductor_latest_news", "conductor_observations", ["last_news", "obs_id"])


# ------------------------------------------------------------------ SQLite: a row at a time

_ADD = (
    f"INSERT INTO conductor_counts ({COUNTED}) VALUES (0, {{}}, 1) "
    f"ON CONFLICT ({KEY}) DO UPDATE SET number = number + 1;"
)
_SUBTRACT = (
    "UPDATE conductor_counts SET number = number - 1 WHERE part = 0 AND (counted, product, "
    "provider, state) = ({});"
)
_PROCESSING = "'processing', {0}.product, {0}.provider, {0}.state"
_AVAILABLE = "'available', {0}.product, '', ''"
_OBSERVATION = "'observation', '', '', ''"
_LAST_NEWS = "(SELECT max(heard) FROM conductor_available WHERE obs_id = {0}.obs_id)"

SQLITE_TRIGGERS = (
    "CREATE TRIGGER conductor_processing_inserted AFTER INSERT ON conductor_processings BEGIN "
    + _ADD.format(_PROCESSING.format("NEW"))
    + " END",
    "CREATE TRIGGER conductor_processing_updated "
    "AFTER UPDATE OF product, provider, state ON conductor_processings "
    "WHEN (OLD.product, OLD.provider, OLD.state) <> (NEW.product, NEW.provider, NEW.state) BEGIN "
    + _SUBTRACT.format(_PROCESSING.format("OLD"))
    + _ADD.format(_PROCESSING.format("NEW"))
    + " END",
    "CREATE TRIGGER conductor_processing_deleted AFTER DELETE ON conductor_processings BEGIN "
    + _SUBTRACT.format(_PROCESSING.format("OLD"))
    + " END",
    "CREATE TRIGGER conductor_available_inserted AFTER INSERT ON conductor_available BEGIN "
    + _ADD.format(_AVAILABLE.format("NEW"))
    + "INSERT INTO conductor_observations (obs_id, available, last_news) "
    "VALUES (NEW.obs_id, 1, NEW.heard) ON CONFLICT (obs_id) DO UPDATE SET "
    "available = available + 1, last_news = max(last_news, excluded.last_news); END",
    "CREATE TRIGGER conductor_available_updated AFTER UPDATE OF heard ON conductor_available "
    "WHEN OLD.heard <> NEW.heard BEGIN "
    "UPDATE conductor_observations SET last_news = "
    + _LAST_NEWS.format("NEW")
    + " WHERE obs_id = NEW.obs_id; END",
    "CREATE TRIGGER conductor_available_deleted AFTER DELETE ON conductor_available BEGIN "
    + _SUBTRACT.format(_AVAILABLE.format("OLD"))
    + "DELETE FROM conductor_observations WHERE obs_id = OLD.obs_id AND available = 1;"
    "UPDATE conductor_observations SET available = available - 1, last_news = "
    + _LAST_NEWS.format("OLD")
    + " WHERE obs_id = OLD.obs_id; END",
    "CREATE TRIGGER conductor_observation_inserted AFTER INSERT ON conductor_observations BEGIN "
    + _ADD.format(_OBSERVATION)
    + " END",
    "CREATE TRIGGER conductor_observation_deleted AFTER DELETE ON conductor_observations BEGIN "
    + _SUBTRACT.format(_OBSERVATION)
    + " END",
)

# ------------------------------------------------------------------ PostgreSQL: a statement at once

# A count that all transactions updated would be locked by each until its commit: they would wait
# for one another, and two that change counts in another order would end in a deadlock. So each
# connection has a part of its own, under the number of its process; a count is the sum of its
# parts, which `batuta.conductor.database.summaries` joins when a conductor starts.


def _postgresql_triggers() -> Iterator[str]:
    for table, counted, columns in (
        ("processings", "processing", "product, provider, state"),
        ("available", "available", "product, '' AS provider, '' AS state"),
        ("observations", "observation", "'' AS product, '' AS provider, '' AS state"),
    ):
        for event in ("insert", "update", "delete"):
            if event != "update" or counted == "processing":
                yield from _trigger(table, "count", event, _counting(counted, columns, event))
    yield from _trigger("available", "summarise", "insert", _OBSERVATIONS_INSERTED)
    yield from _trigger("available", "summarise", "update", _OBSERVATIONS_UPDATED)
    yield from _trigger("available", "summarise", "delete", _OBSERVATIONS_DELETED)


def _trigger(table: str, what: str, event: str, body: str) -> Iterator[str]:
    name = f"conductor_{what}_{table}_{event}"
    before, after = "OLD TABLE AS before", "NEW TABLE AS after"
    rows = {"insert": after, "update": f"{before} {after}", "delete": before}[event]
    yield (
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql "
        f"AS $$ BEGIN {body} RETURN NULL; END $$"
    )
    yield (
        f"CREATE TRIGGER {name} AFTER {event.upper()} ON conductor_{table} "
        f"REFERENCING {rows} FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
    )


def _counting(counted: str, columns: str, event: str) -> str:
    added = f"SELECT {columns}, 1 AS change FROM after"
    removed = f"SELECT {columns}, -1 AS change FROM before"
    changes = {"insert": added, "update": f"{added} UNION ALL {removed}", "delete": removed}[event]
    return (
        f"INSERT INTO conductor_counts ({COUNTED}) "
        f"SELECT pg_backend_pid(), '{counted}', product, provider, state, sum(change) "
        f"FROM ({changes}) AS changes GROUP BY product, provider, state HAVING sum(change) <> 0 "
        f"ON CONFLICT ({KEY}) DO UPDATE SET number = conductor_counts.number + excluded.number;"
    )


_OBSERVATIONS_INSERTED = (
    "INSERT INTO conductor_observations (obs_id, available, last_news) "
    "SELECT obs_id, count(*), max(heard) FROM after GROUP BY obs_id ORDER BY obs_id "
    "ON CONFLICT (obs_id) DO UPDATE SET "
    "available = conductor_observations.available + excluded.available, "
    "last_news = greatest(conductor_observations.last_news, excluded.last_news);"
)
# Locked first, in one order everywhere: what the next statement reads of an observation, nobody
# else is changing.
_LOCK = (
    "PERFORM 1 FROM conductor_observations WHERE obs_id IN (SELECT obs_id FROM {}) "
    "ORDER BY obs_id FOR UPDATE;"
)
_NEWEST = (
    "(SELECT max(heard) FROM conductor_available AS rest "
    "WHERE rest.obs_id = conductor_observations.obs_id)"
)
_OBSERVATIONS_UPDATED = (
    _LOCK.format("after")
    + f"UPDATE conductor_observations SET last_news = {_NEWEST} WHERE obs_id IN "
    "(SELECT a.obs_id FROM after AS a JOIN before AS b USING (obs_id, product) "
    "WHERE a.heard <> b.heard);"
)
_OBSERVATIONS_DELETED = (
    _LOCK.format("before") + "DELETE FROM conductor_observations USING "
    "(SELECT obs_id, count(*) AS number FROM before GROUP BY obs_id) AS gone "
    "WHERE conductor_observations.obs_id = gone.obs_id AND available = gone.number;"
    "UPDATE conductor_observations SET available = available - gone.number, "
    f"last_news = {_NEWEST} FROM "
    "(SELECT obs_id, count(*) AS number FROM before GROUP BY obs_id) AS gone "
    "WHERE conductor_observations.obs_id = gone.obs_id;"
)
