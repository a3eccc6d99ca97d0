"""What the databases of pipeline and conductor record of profiles, on every kind of database."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from batuta.conductor.database.ledger import Ledger
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.requests.slots import Capacity
from batuta.conductor.database.schema import MIGRATIONS as CONDUCTOR_MIGRATIONS
from batuta.conductor.database.schema import processings as conductor_table
from batuta.conductor.database.views.observations import Views
from batuta.conductor.decisions.events import StatusUpdate
from batuta.conductor.decisions.processing_record import WaitConfig
from batuta.conductor.decisions.rules import Arrival
from batuta.messaging import ProcessingState as State
from batuta.pipeline.messages import Outcome, PipelineProcessing, ProcessingRequest
from batuta.pipeline.schema import MIGRATIONS
from batuta.pipeline.schema import processings as pipeline_table
from batuta.pipeline.store import ProcessingStore
from batuta.service.client import ServiceError
from batuta.service.committer import Committer
from batuta.service.database import open_database
from tests.conductor.graphs import graph_of

URL = "http://maker:5000/pipeline"
REQUEST = ProcessingRequest(product="A", obs_id="o1", processing_id="p1")
AGAIN = REQUEST.model_copy(update={"attempt": 2})
FAILED = Outcome(error="broken")


async def found(store: ProcessingStore) -> PipelineProcessing:
    stored = await store.find("p1")
    assert stored is not None
    return stored.record


async def test_a_record_links_the_profile_of_its_last_attempt_until_it_is_removed(
    empty_database_url: str,
) -> None:
    with open_database(empty_database_url, MIGRATIONS) as engine:
        async with Committer(engine) as committer:
            store = ProcessingStore(engine, committer, ["maker"])
            submitted = (await store.submit(REQUEST, "maker")).stored
            assert submitted.record.profile is None
            running = await store.record_start("p1")
            assert running.record.profile is None
            ended = await store.record_end(running.record, State.FAILED, FAILED, profiled=True)
            assert ended.record.profile == "/processing/p1/profile"
            again = (await store.submit(AGAIN, "maker")).stored
            assert again.record.profile is None
            await store.record_end(again.record, State.FAILED, FAILED, profiled=False)
            assert (await found(store)).profile is None
            assert (await store.record_profile("p1")).record.profile is not None
            assert await store.expired_keys(0.0) == []
            (key,) = await store.expired_keys(1e12)
            # More than PostgreSQL takes values in one statement.
            await store.record_removal([*(f"k{number}" for number in range(66_000)), key])
            assert (await found(store)).profile is None
            assert await store.expired_keys(1e12) == []


@contextmanager
def first_revision_database(url: str, migrations: Path, folder: Path) -> Iterator[sa.Engine]:
    """A database with the tables of the first revision only."""
    first = folder / migrations.parent.name / "migrations"
    first.mkdir(parents=True)
    shutil.copy(migrations / "0001_first.py", first)
    with open_database(url, first) as engine:
        yield engine


async def test_processings_recorded_before_profiles_existed_are_read(
    empty_database_url: str, tmp_path: Path
) -> None:
    row = {
        "id": "p1",
        "key": "k",
        "provider": "maker",
        "product": "A",
        "obs_id": "o1",
        "state": State.FAILED.value,
        **dict.fromkeys(("attempt", "restarts", "runs", "done", "total"), 1),
        "inputs": [],
        "outputs": [],
        "log_kept": True,
    }
    with (
        first_revision_database(empty_database_url, MIGRATIONS, tmp_path) as engine,
        engine.begin() as connection,
    ):
        connection.execute(sa.insert(pipeline_table).values(row))
    with open_database(empty_database_url, MIGRATIONS) as engine:
        async with Committer(engine) as committer:
            record = await found(ProcessingStore(engine, committer, ["maker"]))
    assert (record.state, record.profile) == (State.FAILED, None)


class ClaimedProcessing:
    """The ledger of a conductor that has claimed one processing, and its views."""

    def __init__(self, engine: sa.Engine) -> None:
        product = {"m_input": ["A"], "max_attempts": 2, "timeout": 60}
        graph = graph_of(["A"], {"B": product})
        self.now = 1_000_000.0
        self.ledger = Ledger(engine, graph, WaitConfig(), lambda: self.now)
        self.views = Views(engine, graph, self.url_of)
        self.known = True
        requests, _ended = self.ledger.on_data([Arrival("A", "o1", 1)], [], Capacity(total=10))
        (self.request,) = requests

    def url_of(self, provider: str) -> str:
        if not self.known:
            raise ServiceError(f"{provider}: the graph has no such provider any more")
        return URL

    def update(self, state: State, *, attempt: int = 1, profiled: bool = False) -> str | None:
        """Process a status update; return the link shown afterwards."""
        update = StatusUpdate(
            processing_id=self.id,
            state=state,
            attempt=attempt,
            profiled=profiled,
            archived=state is State.SUCCEEDED,
        )
        self.ledger.apply([update])
        return self.link

    def request_again(self) -> DueRequest:
        self.now += 10
        (request,) = self.ledger.take_due(Capacity(total=10))
        return request

    @property
    def id(self) -> str:
        return self.request.processing_id

    @property
    def link(self) -> str | None:
        shown = self.views.processing(self.id)
        assert shown is not None
        return shown.profile


@pytest.fixture
def claimed(empty_database_url: str) -> Iterator[ClaimedProcessing]:
    with open_database(empty_database_url, CONDUCTOR_MIGRATIONS) as engine:
        yield ClaimedProcessing(engine)


def test_the_conductor_links_the_profile_of_the_last_attempt(claimed: ClaimedProcessing) -> None:
    link = f"{URL}/processing/{claimed.id}/profile"
    assert claimed.update(State.RUNNING) is None
    assert claimed.update(State.FAILED, profiled=True) == link
    (why,) = claimed.views.why("B", "o1").processings
    assert why.profile == link
    assert claimed.request_again().attempt == 2
    assert claimed.link is None
    assert claimed.update(State.FAILED, profiled=True) is None  # old news, of the first attempt
    assert claimed.update(State.RUNNING, attempt=2) is None
    assert claimed.update(State.SUCCEEDED, attempt=2, profiled=True) == link
    claimed.known = False
    assert claimed.link is None


def test_a_processing_without_profile_has_no_link(claimed: ClaimedProcessing) -> None:
    assert claimed.update(State.SUCCEEDED) is None


def test_what_a_person_cancelled_has_its_link_once_its_pipeline_has_answered(
    claimed: ClaimedProcessing,
) -> None:
    claimed.update(State.RUNNING)
    claimed.ledger.operations.cancel(claimed.id, "cancelled by a person")
    assert claimed.link is None
    assert claimed.update(State.CANCELLED, profiled=True) is not None
    shown = claimed.views.processing(claimed.id)
    assert shown is not None
    assert (shown.state, shown.error) == (State.CANCELLED, "cancelled by a person")


def test_what_was_stopped_at_its_deadline_has_its_link(claimed: ClaimedProcessing) -> None:
    claimed.update(State.RUNNING)
    claimed.now += 100
    assert claimed.update(State.CANCELLED, profiled=True) is not None
    shown = claimed.views.processing(claimed.id)
    assert shown is not None
    assert shown.state is State.RETRYING


def test_processings_of_a_conductor_without_profiles_are_read(
    empty_database_url: str, tmp_path: Path
) -> None:
    numbers = ("priority", "attempt", "pipeline_attempt", "max_attempts", "done", "total")
    row = {
        "id": "p1",
        "product": "B",
        "obs_id": "o1",
        "claim": "once",
        "inputs": {},
        "provider": "maker",
        "state": State.FAILED.value,
        **dict.fromkeys(numbers, 1),
        **dict.fromkeys(("timeout_s", "not_before", "ask_at", "created"), 1_000_000.0),
    }
    with first_revision_database(empty_database_url, CONDUCTOR_MIGRATIONS, tmp_path) as engine:
        names = {each["name"] for each in sa.inspect(engine).get_columns(conductor_table.name)}
        assert "profiled" not in names
        assert names < {column.name for column in conductor_table.c}
        with engine.begin() as connection:
            connection.execute(sa.insert(conductor_table).values(row))
    with open_database(empty_database_url, CONDUCTOR_MIGRATIONS) as engine:
        views = Views(engine, graph_of(["A"], {"B": {"m_input": ["A"]}}), lambda _: URL)
        shown = views.processing("p1")
    assert shown is not None
    assert (shown.state, shown.profile) == (State.FAILED, None)
