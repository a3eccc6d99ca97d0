"""Databases that earlier versions have filled are upgraded, and their rows mean the same."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from batuta.conductor.database.campaign_schema import campaigns
from batuta.conductor.database.retention.dropped import (
    DroppedObservation,
    DroppedProcessing,
    DroppedVersion,
    encoded,
    read_dropped,
)
from batuta.conductor.database.schema import MIGRATIONS, metadata
from batuta.conductor.database.views.campaign_views import CampaignReport
from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.failure_views import FailureViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.why_views import WhyViews
from batuta.conductor.decisions.rules import Arrival, processing_id_of
from batuta.messaging import ProcessingState as State
from batuta.service.database import open_database, reading
from tests.conductor.campaign_player import CampaignPlayer
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, Harness, migrate_to
from tests.conductor.test_summaries import assert_right
from tests.support.databases import copy_of_database

REVISIONS: Final = ["0001", "0006", "0012", "0015", "0017", "0019", "0022", "0024"]
GRAPH = graph_of(
    ["A"],
    {
        "B": {"m_input": ["A"]},
        "C": {"m_input": ["B"], "on_update": "reprocess"},
        "H": {"m_input": ["A"], "provider": "other"},
    },
)
T0: Final = 999_000.0
"""When most of it happened; the conductor that upgrades starts at 1,000,000."""

Rows = Mapping[str, list[dict[str, Any]]]


def processing(product: str, obs_id: str, state: str, **values: object) -> dict[str, Any]:
    """A row of the table of processings, as every version has had it."""
    claim = "B=1" if product == "C" else "once"
    return {
        "id": processing_id_of(product, obs_id, claim),
        "product": product,
        "obs_id": obs_id,
        "claim": claim,
        "inputs": {"B": 1} if product == "C" else {"A": 1},
        "provider": "other" if product == "H" else "maker",
        "priority": 0,
        "state": state,
        "attempt": 1,
        "pipeline_attempt": 1,
        "max_attempts": 10,
        "timeout_s": 3600.0,
        "not_before": T0,
        "ask_at": T0 + 10,
        "done": 0,
        "total": 0,
        "created": T0,
        **values,
    }


RUNNING: Final = {"requested": T0 + 1, "started": T0 + 2}
ENDED: Final = {**RUNNING, "ended": T0 + 3}
WAITS: Final = {"attempt": 0, "pipeline_attempt": 0}

PROCESSINGS = [
    processing("B", "made", "succeeded", **ENDED),
    processing("C", "made", "failed", error="no luck", max_attempts=1, **ENDED),
    processing("B", "waits", "waiting", **WAITS),
    processing("B", "runs", "running", **RUNNING),
    processing("B", "again", "retrying", error="noise", not_before=T0 + 90_000, **RUNNING),
    processing("B", "stopped", "cancelled", error="by a person", **ENDED),
    processing("H", "held", "held", **WAITS),
    *(processing("H", obs_id, "succeeded", **ENDED) for obs_id in ("made", "waits", "runs")),
    *(processing("H", obs_id, "succeeded", **ENDED) for obs_id in ("again", "stopped")),
    processing("B", "held", "succeeded", **ENDED),
    processing("C", "held", "succeeded", **ENDED),
]
AVAILABLE: dict[tuple[str, str], dict[str, Any]] = {}
for _row in PROCESSINGS:
    _version = {"obs_id": _row["obs_id"], "version": 1, "archived": True, "heard": T0}
    AVAILABLE[_row["obs_id"], "A"] = {**_version, "product": "A"}
    if _row["state"] == "succeeded":
        _made = {"product": _row["product"], "made_by": _row["id"]}
        AVAILABLE[_row["obs_id"], _row["product"]] = {**_version, **_made}
STATES = {f"{row['product']}/{row['obs_id']}": row["state"] for row in PROCESSINGS}
GONE = DroppedObservation(
    obs_id="gone",
    archived=T0,
    file=None,
    versions={
        name: DroppedVersion(version=1, archived=True, heard=T0 - 9)
        for name in ("A", "B", "C", "H")
    },
    processings=[
        DroppedProcessing(
            **{
                name: value
                for name, value in processing(product, "gone", "succeeded", **ENDED).items()
                if name not in {"not_before", "ask_at", "done", "total", "started", "state"}
            },
            state=State.SUCCEEDED,
            remake=False,
        )
        for product in "BCH"
    ],
)
CAMPAIGN = {
    "selection": {"products": ["B"], "scope": "missing"},
    "graph": GRAPH.digest,
    "work_class": "backfill",
    "max_concurrent": 10,
    "created": T0,
    "touched": T0,
    "started": T0,
    "ran_s": 5.0,
}
ROWS: Rows = {
    "conductor_about": [{"key": "identity", "value": "f00d"}, {"key": "rebuilt", "value": "yes"}],
    "conductor_available": [*AVAILABLE.values()],
    "conductor_processings": PROCESSINGS,
    "conductor_dropped": [encoded(GONE)],
    "conductor_events": [
        {
            "received": T0,
            "sequence": 1,
            "id": "e1",
            "source": "vhf",
            "product": "A",
            "obs_id": "made",
            "version": 1,
            "outcome": "triggered",
            "triggered": f'{{"B": "{processing_id_of("B", "made", "once")}"}}',
        }
    ],
    "conductor_history": [
        {
            "obs_id": "made",
            "processing_id": processing_id_of("C", "made", "B=1"),
            "at": T0 + 3,
            "attempt": 1,
            "what": "attempt 1 failed: failed",
            "reason": "no luck",
            "by": "conductor",
        }
    ],
    "conductor_orders": [
        {
            "at": T0,
            "operator": "ana",
            "proved": True,
            "command": "hold",
            "about": '{"provider": "other"}',
            "selected": 0,
            "changed": 0,
            "ended": T0,
        }
    ],
    "conductor_campaigns": [
        {
            **CAMPAIGN,
            "state": "done",
            "total": 1,
            "ended": T0 + 5,
            "report": {"reasons": []},
        },
        {**CAMPAIGN, "state": "running", "total": 1, "running_since": T0},
    ],
    "conductor_campaign_items": [
        {
            "campaign": 2,
            "obs_id": "waits",
            "product": "B",
            "state": "open",
            "processing_id": processing_id_of("B", "waits", "once"),
            "at": T0,
        }
    ],
    "conductor_campaign_counts": [{"campaign": 1, "product": "B", "state": "made", "number": 1}],
}
"""Of each table what its rows could be; columns that a revision does not have are left out."""


def holds_of(columns: set[str]) -> dict[str, Any]:
    """The hold of a provider, as a revision has it that has these columns."""
    if "since" in columns:
        return {"provider": "other", "since": T0}
    of_now = {"begins": T0, "placed": T0, "by": "operator ana", "applied": True, "pause": False}
    values = {"provider": "other", **of_now}
    return {name: value for name, value in values.items() if name in columns}


def fill(engine: sa.Engine) -> None:
    """Write the rows into the tables of whatever revision it is."""
    tables = sa.MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        for name, rows in ROWS.items():
            if name not in tables.tables:
                continue
            table = tables.tables[name]
            columns = {column.name for column in table.columns}
            for row in rows:
                given = {key: value for key, value in row.items() if key in columns}
                # Reflected columns of SQLite know nothing of JSON.
                types = metadata.tables[name].columns
                values = {
                    key: sa.bindparam(key, value, types[key].type) for key, value in given.items()
                }
                connection.execute(sa.insert(table).values(values))
        holds = tables.tables["conductor_holds"]
        connection.execute(sa.insert(holds).values(holds_of({each.name for each in holds.columns})))
        if "held_by" in tables.tables["conductor_processings"].columns:
            held = "UPDATE conductor_processings SET held_by = 1 WHERE state = 'held'"
            connection.execute(sa.text(held))


@pytest.fixture(params=REVISIONS)
def revision(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def upgraded_databases() -> dict[tuple[str, str], str]:
    """The addresses of databases that were upgraded, by revision and kind: do not open them."""
    return {}


@pytest.fixture
def upgraded(
    revision: str, empty_database_url: str, upgraded_databases: dict[tuple[str, str], str]
) -> Iterator[Harness]:
    """A conductor on a database that a conductor of an earlier revision has filled."""
    of = revision, sa.make_url(empty_database_url).get_backend_name()
    if of not in upgraded_databases:
        upgrade(empty_database_url, revision)
        upgraded_databases[of] = empty_database_url
    harness = Harness(copy_of_database(upgraded_databases[of]), GRAPH)
    yield harness
    harness.close()


def upgrade(url: str, revision: str) -> None:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    migrate_to(revision, engine)
    fill(engine)
    engine.dispose()
    with open_database(url, MIGRATIONS):
        pass


def states(harness: Harness) -> dict[str, str]:
    items = harness.views.processings({}, 1000, None).items
    return {f"{each.product}/{each.obs_id}": each.state.value for each in items}


def test_failures_of_earlier_versions_are_grouped(upgraded: Harness) -> None:
    groups = FailureViews(upgraded.engine).page(None, 10).items
    assert [(each.kind, each.failed, each.retrying) for each in groups] == [
        ("no luck", 1, 0),
        ("noise", 0, 1),
    ]


def test_rows_of_earlier_versions_mean_the_same(upgraded: Harness, revision: str) -> None:
    harness = upgraded
    assert states(harness) == STATES
    assert_right(harness.engine)
    assert harness.ledger.identity() == "f00d"
    assert harness.ledger.rebuilt

    # What was announced claims nothing when it is announced again.
    known = [(row["product"], row["obs_id"], 1) for row in ROWS["conductor_available"]]
    assert [each.obs_id for each in harness.on_data(*known)] == ["waits"]
    assert states(harness) == {**STATES, "B/waits": "requested"}
    assert [each.record.obs_id for each in harness.due_for_polling(UNLIMITED)] == ["runs"]

    # What ran is followed to its end, and what follows from it is made.
    (ran,) = harness.views.processings({"obs_id": "runs", "product": "B"}, 9, None).items
    assert ran.inputs == {"A": 1}
    harness.clock.advance(1)
    harness.take([Arrival("B", "runs", 1, archived=True, made_by=ran.id)], UNLIMITED)
    assert states(harness)["C/runs"] == "requested"

    # What failed is retried, what is held is let go.
    failed = processing_id_of("C", "made", "B=1")
    harness.ledger.operations.retry(failed)
    assert [each.processing_id for each in harness.ledger.take_due(UNLIMITED)] == [failed]
    (hold,) = harness.ledger.holds.open_holds()
    assert (hold.scope.provider, hold.begins) == ("other", T0)
    harness.release("other")
    assert [each.obs_id for each in harness.ledger.take_due(UNLIMITED)] == ["held"]
    harness.clock.advance(90_000)
    assert "again" in [each.obs_id for each in harness.ledger.take_due(UNLIMITED)]


def test_what_was_made_before_an_upgrade_is_stale_by_news_and_told_from_the_record(
    upgraded: Harness, revision: str
) -> None:
    harness = upgraded
    harness.take([Arrival("A", "held", 2, archived=True)], UNLIMITED)
    stale = harness.views.processings({}, 10, None, stale=True).items
    assert {each.product: each.stale_because for each in stale} == {
        "B": "made from A v1, and v2 is available",
        "C": "B is stale",
    }
    views = EventViews(harness.engine, harness.current, harness.views)
    why = WhyViews(views, LateViews(harness.engine)).why("C", "made")
    assert any("no luck" in each.what for each in why.history)
    assert "no luck" in why.answer


@pytest.mark.parametrize("revision", [each for each in REVISIONS if each >= "0005"], indirect=True)
def test_what_was_dropped_before_an_upgrade_is_not_made_again(upgraded: Harness) -> None:
    harness = upgraded
    requested = harness.on_data(*((name, "gone", 1) for name in "ABCH"))
    assert [each.obs_id for each in requested] == ["waits"]
    with reading(harness.engine) as connection:
        assert "gone" in read_dropped(connection, ["gone"])
    assert "B/gone" not in states(harness)
    harness.take([Arrival("A", "gone", 2, archived=True)], UNLIMITED)
    assert states(harness)["B/gone"] == "succeeded"


@pytest.mark.parametrize("revision", [each for each in REVISIONS if each >= "0019"], indirect=True)
def test_campaigns_of_before_an_upgrade_go_on_and_keep_their_reports(upgraded: Harness) -> None:
    player = CampaignPlayer(upgraded)
    report = player.views.report(1)
    assert isinstance(report, CampaignReport)
    assert report.progress.made == 1
    player.rest(2)
    assert [f"{each.product}/{each.obs_id}" for each in player.run(2)] == ["B/waits", "C/waits"]
    with reading(upgraded.engine) as connection:
        found = connection.scalars(sa.select(campaigns.c.state).order_by(campaigns.c.number)).all()
    assert found == ["done", "done"]


def test_an_upgraded_database_has_the_tables_of_a_new_one(upgraded: Harness) -> None:
    with upgraded.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        of_conductor = [
            each for each in compare_metadata(context, metadata) if "alembic" not in str(each)
        ]
    assert of_conductor == []
