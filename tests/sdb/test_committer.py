"""Commits: what waits shares one; what fails of it fails alone."""

import asyncio
import uuid
from collections.abc import Awaitable, Iterator
from dataclasses import astuple
from functools import partial

import pytest
import sqlalchemy as sa

from batuta.sdb.catalogue import Catalogue, ImportResult
from batuta.sdb.tables import MIGRATIONS, OUTBOX, PRODUCTS
from batuta.service.committer import Committer
from batuta.service.database import open_database
from batuta.service.problems import ProblemError
from tests.sdb.test_catalogue import new


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    with open_database(database_url, MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def commits(engine: sa.Engine) -> list[sa.Connection]:
    """One for each transaction committed."""
    counted: list[sa.Connection] = []
    sa.event.listen(engine, "commit", counted.append)
    return counted


async def record_at_once(
    engine: sa.Engine, asked: list[tuple[str, str, str | None]], content: str | None = None
) -> list[ImportResult | BaseException]:
    """Record each of `asked`, of bytes of its own unless they are given."""
    catalogue = Catalogue(engine, "http://sdb")
    async with Committer(engine) as committer:
        record = partial(committer.commit_item, catalogue.record_all)
        outcomes: list[ImportResult | BaseException] = await asyncio.gather(
            *(record(new(*one, content or uuid.uuid4().hex)) for one in asked),
            return_exceptions=True,
        )
        return outcomes


def versions(recorded: list[ImportResult | BaseException]) -> list[int]:
    return [one.stored.version for one in recorded if isinstance(one, ImportResult)]


def rows(engine: sa.Engine, table: sa.Table) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


async def test_imports_that_wait_together_are_committed_together(
    engine: sa.Engine, commits: list[sa.Connection]
) -> None:
    recorded = await record_at_once(engine, [("A", "o1", None)] * 50)
    assert versions(recorded) == list(range(1, 51))
    assert rows(engine, OUTBOX) == 50
    assert len(commits) == 1


async def test_each_import_is_handed_the_row_that_announces_it(engine: sa.Engine) -> None:
    asked = [(product, "o1", None) for product in "ABACB"]
    recorded = await record_at_once(engine, [("A", "o2", None)]) + await record_at_once(
        engine, [*asked]
    )
    handed = [one.announcement for one in recorded if isinstance(one, ImportResult)]
    with engine.connect() as connection:
        outbox = connection.execute(sa.select(OUTBOX).order_by(OUTBOX.c.id)).all()
    assert [astuple(one) for one in handed if one is not None] == [tuple(row) for row in outbox]


async def test_a_processing_that_imports_twice_in_one_commit_has_one_record(
    engine: sa.Engine,
) -> None:
    recorded = await record_at_once(engine, [("A", "o1", "p1"), ("B", "o1", "p1")] * 2)
    assert [one.is_new for one in recorded if isinstance(one, ImportResult)] == [
        True,
        True,
        False,
        False,
    ]
    assert versions(recorded) == [1, 1, 1, 1]
    assert rows(engine, PRODUCTS) == rows(engine, OUTBOX) == 2


async def test_what_fails_fails_alone_and_leaves_nothing(engine: sa.Engine) -> None:
    catalogue = Catalogue(engine, "http://sdb")

    def taken(connection: sa.Connection) -> None:
        """Record, then break a rule of the database."""
        catalogue.record_all(connection, [new("A", "o1", None, uuid.uuid4().hex)])
        values = connection.execute(sa.select(PRODUCTS).limit(1)).one()
        connection.execute(sa.insert(PRODUCTS), {**values._mapping, "id": None})

    def surprised(connection: sa.Connection) -> None:
        catalogue.record_all(connection, [new("A", "o1", None, uuid.uuid4().hex)])
        raise ZeroDivisionError

    async with Committer(engine) as committer:

        def good() -> Awaitable[ImportResult]:
            one = new("A", "o1", None, uuid.uuid4().hex)
            return committer.commit_item(catalogue.record_all, one)

        outcomes = await asyncio.gather(
            good(),
            committer.commit(taken),
            good(),
            committer.commit(surprised),
            good(),
            return_exceptions=True,
        )
    assert [type(outcome) for outcome in outcomes] == [
        ImportResult,
        sa.exc.IntegrityError,
        ImportResult,
        ZeroDivisionError,
        ImportResult,
    ]
    assert versions([one for one in outcomes if isinstance(one, ImportResult)]) == [1, 2, 3]
    assert rows(engine, PRODUCTS) == rows(engine, OUTBOX) == 3


async def test_a_refusal_is_told_to_the_one_refused(engine: sa.Engine) -> None:
    catalogue = Catalogue(engine, "http://sdb")
    first = new("A", "o1", "p1")
    other = new("A", "o2", None)
    clash = type(first)(**{**vars(other), "processing_id": first.processing_id})
    async with Committer(engine) as committer:
        record = partial(committer.commit_item, catalogue.record_all)
        outcomes = await asyncio.gather(*map(record, (first, clash, other)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ImportResult, ProblemError, ImportResult]


async def test_two_processes_of_the_sdb_take_turns(engine: sa.Engine) -> None:
    asked: list[tuple[str, str, str | None]] = [("A", "o1", None), ("B", "o1", None)]
    with open_database(
        engine.url.render_as_string(hide_password=False), MIGRATIONS
    ) as other_engine:
        both = await asyncio.gather(
            *(record_at_once(engine, asked) for _ in range(10)),
            *(record_at_once(other_engine, asked[::-1]) for _ in range(10)),
        )
    everything = [one for recorded in both for one in recorded]
    assert sorted(versions(everything)) == sorted([*range(1, 21), *range(1, 21)])


async def test_the_same_imported_at_once_by_two_processes_is_one_version(
    engine: sa.Engine,
) -> None:
    asked: list[tuple[str, str, str | None]] = [("A", "o1", None)] * 3
    with open_database(
        engine.url.render_as_string(hide_password=False), MIGRATIONS
    ) as other_engine:
        both = await asyncio.gather(
            *(record_at_once(each, asked, "same") for each in (engine, other_engine) * 5)
        )
    outcomes = [one for recorded in both for one in recorded if isinstance(one, ImportResult)]
    assert versions([*outcomes]) == [1] * 30
    assert [one.is_new for one in outcomes].count(True) == 1
    assert rows(engine, PRODUCTS) == rows(engine, OUTBOX) == 1
