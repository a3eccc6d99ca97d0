"""The conductor's tables. Times are numbers, in seconds since 1970: they are compared and added."""

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from batuta.work_classes import WorkClass

MIGRATIONS: Final = Path(__file__).parents[1] / "migrations"

PENDING: Final = "state IN ('waiting', 'retrying')"
"""To be requested at their time."""
ACTIVE: Final = "state IN ('requested', 'queued', 'running')"
"""At their provider."""
LISTED: Final = "attempt >= 0"
"""True of every row. The indexes of lists hold for it, and lists say it: so nothing else uses them.

SQLite, which has no statistics, would take ``product, created, id`` for the best way to find one
product of one observation, and read all that the product has ever had.
"""

FAILING: Final = "state IN ('failed', 'retrying')"
"""Whose last attempt has failed."""
HELD: Final = "state = 'held'"
"""Kept back by an operator."""
UNAPPROVED: Final = "state = 'unapproved'"
"""Waits for a person before it is requested."""
OF_CAMPAIGN: Final = "campaign IS NOT NULL"
HAS_ENDED: Final = "ended IS NOT NULL"
STALE: Final = "stale_since IS NOT NULL"
"""Whose product is available, and stale."""
STALE_UNTOLD: Final = "stale_since IS NOT NULL AND stale_told IS NULL"


metadata = sa.MetaData()

about = sa.Table(
    "conductor_about",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)

available = sa.Table(
    "conductor_available",
    metadata,
    sa.Column("obs_id", sa.String, primary_key=True),
    sa.Column("product", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    # Whether the sdb holds it: what arrives from outside may be kept elsewhere.
    sa.Column("archived", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("heard", sa.Float, nullable=False),
    # When it was first heard of; `heard` is when its newest version was. None: at the same time.
    sa.Column("since", sa.Float),
    # The class of work that its event told, or that was told for the processing that made it.
    sa.Column("told_class", sa.String),
    # The rank of its stage. None: no event of it has told one.
    sa.Column("stage", sa.Integer),
    # The processing that made it; None of what arrived, or was imported by hand.
    sa.Column("made_by", sa.String),
    # The digest of its bytes, where it is told; and the first version that had these bytes, where
    # that is not this one.
    sa.Column("sha256", sa.String),
    sa.Column("content", sa.Integer),
    # How often its version was replaced by another.
    sa.Column("updates", sa.Integer, nullable=False, server_default="0"),
)

processings = sa.Table(
    "conductor_processings",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("product", sa.String, nullable=False),
    sa.Column("obs_id", sa.String, nullable=False),
    # Unique per product and observation: "once", the versions of the inputs, or "by hand" and
    # the id.
    sa.Column("claim", sa.String, nullable=False),
    sa.Column("inputs", sa.JSON, nullable=False),
    sa.Column("provider", sa.String, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    # The attempt as the pipeline counts it; what it reports of an earlier one is outdated.
    sa.Column("pipeline_attempt", sa.Integer, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("timeout_s", sa.Float, nullable=False),
    sa.Column("not_before", sa.Float, nullable=False),
    sa.Column("ask_at", sa.Float, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("error", sa.String),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("requested", sa.Float),
    sa.Column("started", sa.Float),
    sa.Column("ended", sa.Float),
    # Whether its pipeline keeps a profile of the last attempt that ended.
    sa.Column("profiled", sa.Boolean, nullable=False, server_default=sa.false()),
    # Whether its pipeline is to run it again although it has succeeded before.
    sa.Column("remake", sa.Boolean, nullable=False, server_default=sa.false()),
    # The version of the code that the current attempt, or the last one, ran.
    sa.Column("code", sa.String),
    # The id or the path under which its pipeline knows the current attempt, if it is not the id.
    sa.Column("pipeline_id", sa.String),
    # What its pipeline has shown of the interface in the current attempt.
    sa.Column("interface", sa.String),
    sa.Column("work_class", sa.String, nullable=False, server_default=WorkClass.LIVE.value),
    # Whether a person has approved that it is made.
    sa.Column("approved", sa.Boolean, nullable=False, server_default=sa.false()),
    # What an event or a command told, if one did.
    sa.Column("told_class", sa.String),
    # What a command or a campaign told, if one did.
    sa.Column("told_priority", sa.Integer),
    # The version of the graph by which it was last decided about; None: before there were any.
    sa.Column("graph_version", sa.Integer),
    # The version for which it was cancelled, as it does not make it: another one continues it.
    sa.Column("set_aside", sa.Integer),
    # The number of the hold that keeps it back, or was the last to.
    sa.Column("held_by", sa.Integer),
    # The address that the current attempt was sent to, if its provider had several.
    sa.Column("instance", sa.String),
    # The number of the campaign that makes it.
    sa.Column("campaign", sa.Integer),
    # The rank of the lowest stage of its inputs. None: none is told.
    sa.Column("stage", sa.Integer),
    # Since when, and why, what it made and is available is stale; and when that was told.
    sa.Column("stale_since", sa.Float),
    sa.Column("stale_because", sa.String),
    sa.Column("stale_told", sa.Float),
    # What was withdrawn of what it was being made from, for which it was stopped.
    sa.Column("withdrawn_input", sa.String),
    # What `error` has in common with like ones: see `batuta.conductor.decisions.failures`.
    sa.Column("error_kind", sa.String, nullable=False, server_default=""),
    # When its current attempt was found to be overdue, by whichever conductor: from then on its
    # provider is told to stop it.
    sa.Column("overdue_since", sa.Float),
    # How many attempts were requested before it took its inputs; and, in a list, what it was
    # claimed from before: {"attempts", "inputs", "stage"}, the first attempts first.
    sa.Column("earlier_attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("earlier_inputs", sa.JSON),
    sa.UniqueConstraint("product", "obs_id", "claim", name="conductor_claimed_once"),
    sa.Index("conductor_of_observation", "obs_id", "created", "id"),
    sa.Index("conductor_newest", "created", "id"),
)

# In the order of lists, so that a page of what one of these selects is read, and not sorted.
LISTED_BY: Final = {
    "product": LISTED,
    "provider": LISTED,
    "state": LISTED,
    "work_class": LISTED,
    "stage": "stage IS NOT NULL",
    "campaign": OF_CAMPAIGN,
}
"""What lists select by, and the rows that the index of each has."""
for _name, _where in LISTED_BY.items():
    sa.Index(
        f"conductor_by_{_name}",
        processings.c[_name],
        processings.c.created,
        processings.c.id,
        sqlite_where=sa.text(_where),
        postgresql_where=sa.text(_where),
    )

for _name, _where, _keys in (
    ("conductor_stale", STALE, ("created", "id")),
    ("conductor_stale_untold", STALE_UNTOLD, ("stale_since",)),
):
    sa.Index(
        _name,
        *(processings.c[key] for key in _keys),
        sqlite_where=sa.text(_where),
        postgresql_where=sa.text(_where),
    )

# All that is told of failures by provider and kind is in it.
sa.Index(
    "conductor_failing",
    *(
        processings.c[key]
        for key in ("provider", "error_kind", "product", "state", "ended", "requested")
    ),
    sqlite_where=sa.text(FAILING),
    postgresql_where=sa.text(FAILING),
)

# In the order of time: each end is added at its last page, and no decision reads it.
sa.Index(
    "conductor_ended",
    processings.c.ended,
    processings.c.created,
    sqlite_where=sa.text(HAS_ENDED),
    postgresql_where=sa.text(HAS_ENDED),
)
sa.Index(
    "conductor_due",
    processings.c.work_class,
    processings.c.provider,
    processings.c.priority.desc(),
    processings.c.created,
    sqlite_where=sa.text(PENDING),
    postgresql_where=sa.text(PENDING),
)
sa.Index(
    "conductor_later",
    processings.c.not_before,
    sqlite_where=sa.text(PENDING),
    postgresql_where=sa.text(PENDING),
)
sa.Index(
    "conductor_followed",
    processings.c.ask_at,
    sqlite_where=sa.text(ACTIVE),
    postgresql_where=sa.text(ACTIVE),
)

# What is held leaves the indexes above: however much it is, it is not read to find what is due. In
# the order in which it is let go, and in that in which it is counted.
for _name, _columns in (
    (
        "conductor_held_by",
        (
            processings.c.held_by,
            processings.c.work_class,
            processings.c.priority.desc(),
            processings.c.created,
        ),
    ),
    (
        "conductor_held",
        (
            processings.c.work_class,
            processings.c.provider,
            processings.c.product,
            processings.c.campaign,
            processings.c.obs_id,
        ),
    ),
):
    sa.Index(_name, *_columns, sqlite_where=sa.text(HELD), postgresql_where=sa.text(HELD))
sa.Index(
    "conductor_unapproved",
    processings.c.work_class,
    processings.c.provider,
    processings.c.product,
    processings.c.campaign,
    processings.c.obs_id,
    sqlite_where=sa.text(UNAPPROVED),
    postgresql_where=sa.text(UNAPPROVED),
)
sa.Index(
    "conductor_of_campaign",
    processings.c.campaign,
    processings.c.state,
    sqlite_where=sa.text(OF_CAMPAIGN),
    postgresql_where=sa.text(OF_CAMPAIGN),
)

NOT_LATE: Final = "due IS NOT NULL AND late_since IS NULL"
NOT_EXPIRED: Final = "expires IS NOT NULL AND expired IS NULL"
LATE: Final = "late_since IS NOT NULL AND expired IS NULL"

# A row is removed once its product is available.
deadlines = sa.Table(
    "conductor_deadlines",
    metadata,
    sa.Column("obs_id", sa.String, primary_key=True),
    sa.Column("product", sa.String, primary_key=True),
    sa.Column("due", sa.Float),
    sa.Column("expires", sa.Float),
    # When it was told that it is late, and that it has expired.
    sa.Column("late_since", sa.Float),
    sa.Column("expired", sa.Float),
    *(
        sa.Index(
            f"conductor_deadlines_{name}",
            *columns,
            sqlite_where=sa.text(rows),
            postgresql_where=sa.text(rows),
        )
        for name, columns, rows in (
            ("due", ["due"], NOT_LATE),
            ("expires", ["expires"], NOT_EXPIRED),
            ("late", ["due", "obs_id", "product"], LATE),
        )
    ),
)

# See `batuta.conductor.decisions.holds.Hold`, whose attributes these are; a row stays when its hold
# has ended.
holds = sa.Table(
    "conductor_holds",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("provider", sa.String),
    sa.Column("product", sa.String),
    sa.Column("obs_id", sa.String),
    sa.Column("work_class", sa.String),
    sa.Column("begins", sa.Float, nullable=False),
    sa.Column("placed", sa.Float, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("applied", sa.Boolean, nullable=False),
    sa.Column("released", sa.Float),
    sa.Column("released_by", sa.String),
    sa.Column("release_reason", sa.String),
    sa.Column("rate", sa.String),
    sa.Column("next_at", sa.Float),
    sa.Column("ended", sa.Float),
    sa.Column("campaign", sa.Integer),
    # Whether it is the pause of that campaign.
    sa.Column("pause", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index("conductor_holds_ended", "ended"),
    sa.Index("conductor_holds_placed", "placed"),
    sa.Index("conductor_holds_released", "released"),
)

# An observation whose rows are in neither of the tables above, or were, as `live` tells: they have
# been put back since, because there was news of it.
dropped = sa.Table(
    "conductor_dropped",
    metadata,
    sa.Column("obs_id", sa.String, primary_key=True),
    sa.Column("archived", sa.Float, nullable=False),
    # The file that its records are in, relative to the folder of the archive.
    sa.Column("file", sa.String),
    sa.Column("live", sa.Boolean, nullable=False, server_default=sa.false()),
    # What decisions depend on, compressed: see `batuta.conductor.database.retention.dropped`.
    sa.Column("facts", sa.LargeBinary, nullable=False),
    # When anything was last heard of it before it was dropped.
    sa.Column("last_news", sa.Float, nullable=False, server_default="0"),
    sa.Index("conductor_dropped_last_news", "last_news"),
)

# Every graph that was put in force; the one of the highest number is. Never changed, but for
# `settled` and `settled_to`.
graph_versions = sa.Table(
    "conductor_graph_versions",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("applied", sa.Float, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("note", sa.String),
    # The class of work of what it starts; None: that of the graph.
    sa.Column("work_class", sa.String),
    # When all that it starts was started, or a later version came; until then, how far it is.
    sa.Column("settled", sa.Float),
    sa.Column("settled_to", sa.String),
)

IGNORED: Final = "outcome = 'ignored'"
WAITING: Final = "outcome = 'waiting'"

# What became of each message of ``data.*``; received is when NATS stored it.
events = sa.Table(
    "conductor_events",
    metadata,
    sa.Column("received", sa.Float, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String, nullable=False),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("product", sa.String),
    sa.Column("obs_id", sa.String),
    sa.Column("version", sa.Integer),
    # The rank of its stage. None: it tells none.
    sa.Column("stage", sa.Integer),
    sa.Column("outcome", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    # JSON: ids of processings, and lists of inputs, by products.
    sa.Column("triggered", sa.String),
    sa.Column("waiting", sa.String),
    sa.Index("conductor_events_by_id", "id"),
    sa.Index("conductor_events_of", "obs_id", "received", "sequence"),
    # Events are added in the order of their key, and read in it: the table is its own index.
    sqlite_with_rowid=False,
)

for _name, _where in (("ignored", IGNORED), ("waiting", WAITING)):
    sa.Index(
        f"conductor_events_{_name}",
        events.c.received,
        events.c.sequence,
        sqlite_where=sa.text(_where),
        postgresql_where=sa.text(_where),
    )

# Failed attempts of processings, and what operators have ordered for them; never changed.
history = sa.Table(
    "conductor_history",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("obs_id", sa.String, nullable=False),
    sa.Column("processing_id", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("what", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("by", sa.String, nullable=False),
    # Of an attempt that has failed at its provider: when it was requested, and started there.
    sa.Column("requested", sa.Float),
    sa.Column("started", sa.Float),
    sa.Index("conductor_history_of", "obs_id", "number"),
    sa.Index("conductor_history_at", "at"),
)

# What no other table keeps the time of: what was late or has expired (a deadline goes once its
# product is there), and which addresses of providers were left alone.
incidents = sa.Table(
    "conductor_incidents",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    # One of `batuta.conductor.decisions.reports.Incident`.
    sa.Column("what", sa.String, nullable=False),
    sa.Column("obs_id", sa.String),
    sa.Column("product", sa.String),
    sa.Column("provider", sa.String),
    sa.Column("instance", sa.String),
    sa.Column("reason", sa.String),
    sa.Index("conductor_incidents_at", "at"),
    sa.Index("conductor_incidents_of", "obs_id"),
)

TO_APPROVE: Final = "state = 'pending'"

# Versions of products that are not available until a person approves them; never dropped.
approvals = sa.Table(
    "conductor_approvals",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("obs_id", sa.String, nullable=False),
    sa.Column("product", sa.String, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    # "after": before anything is made from it; "late": a result of a processing that was given up.
    sa.Column("gate", sa.String, nullable=False),
    sa.Column("processing_id", sa.String),
    # Why it is asked, in words.
    sa.Column("detail", sa.String),
    sa.Column("archived", sa.Boolean, nullable=False),
    sa.Column("told_class", sa.String),
    # The rank of its stage. None: it tells none.
    sa.Column("stage", sa.Integer),
    sa.Column("asked", sa.Float, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    # Who decided it, when and why.
    sa.Column("by", sa.String),
    sa.Column("decided", sa.Float),
    sa.Column("reason", sa.String),
    sa.UniqueConstraint("obs_id", "product", "version", name="conductor_approved_once"),
    *(
        sa.Index(
            name, *columns, sqlite_where=sa.text(TO_APPROVE), postgresql_where=sa.text(TO_APPROVE)
        )
        for name, columns in (
            ("conductor_to_approve", ["number"]),
            ("conductor_to_approve_by_gate", ["gate", "number"]),
        )
    ),
)

UNDER_WAY: Final = "ended IS NULL"

# Commands that operators have given; never dropped.
orders = sa.Table(
    "conductor_orders",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    # None: nobody said. `proved`: by a token of that operator's own.
    sa.Column("operator", sa.String),
    sa.Column("proved", sa.Boolean, nullable=False),
    sa.Column("command", sa.String, nullable=False),
    # JSON: what it is about.
    sa.Column("about", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    # Of a set: how many processings it selected, how many were changed, and after which one it
    # goes on.
    sa.Column("selected", sa.Integer, nullable=False),
    sa.Column("changed", sa.Integer, nullable=False),
    sa.Column("position", sa.String),
    # Which providers could not be told.
    sa.Column("problem", sa.String),
    sa.Column("ended", sa.Float),
    sa.Index("conductor_orders_at", "at"),
    sa.Index(
        "conductor_orders_under_way",
        "number",
        sqlite_where=sa.text(UNDER_WAY),
        postgresql_where=sa.text(UNDER_WAY),
    ),
)

# How the instances of providers are, that is how their addresses answer; a row goes once there is
# nothing to say. The columns are the fields of `batuta.conductor.decisions.circuits.Circuit`.
circuits = sa.Table(
    "conductor_circuits",
    metadata,
    sa.Column("provider", sa.String, primary_key=True),
    sa.Column("instance", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("opened_by", sa.String),
    sa.Column("since", sa.Float),
    sa.Column("retry_at", sa.Float),
    sa.Column("trials", sa.Integer, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("trial", sa.String),
    # Observations, as lists in JSON.
    sa.Column("unanswered", sa.JSON, nullable=False),
    sa.Column("unanswered_since", sa.Float),
    sa.Column("failed", sa.JSON, nullable=False),
    sa.Column("full_until", sa.Float),
    sa.Column("quiet_until", sa.Float),
    sa.Column("lost", sa.Float),
)

# What was stopped, and its provider was not told yet; a row goes once that has answered. The
# columns are the fields of `batuta.conductor.decisions.stops.Stop`.
stops = sa.Table(
    "conductor_stops",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("product", sa.String, nullable=False),
    sa.Column("obs_id", sa.String, nullable=False),
    sa.Column("provider", sa.String, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("instance", sa.String),
    sa.Column("pipeline_id", sa.String),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("next_at", sa.Float, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("problem", sa.String),
    sa.Index("conductor_stops_due", "next_at"),
)

# Both are kept by triggers (see the migrations), in the transaction of what they count, and are
# written by nothing else.

observations = sa.Table(
    "conductor_observations",
    metadata,
    sa.Column("obs_id", sa.String, primary_key=True),
    # How many products are available, and when one was last heard of.
    sa.Column("available", sa.Integer, nullable=False),
    sa.Column("last_news", sa.Float, nullable=False),
    sa.Index("conductor_latest_news", "last_news", "obs_id"),
)

counts = sa.Table(
    "conductor_counts",
    metadata,
    # A number is the sum of its parts: each connection to PostgreSQL writes one of its own.
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    # "processing", "available" or "observation"; then what does not apply is empty.
    sa.Column("counted", sa.String, primary_key=True),
    sa.Column("product", sa.String, primary_key=True),
    sa.Column("provider", sa.String, primary_key=True),
    sa.Column("state", sa.String, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)
