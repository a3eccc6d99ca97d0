"""Writes from an event loop: committed together, in order, and never half."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from batuta.pipeline.schema import MIGRATIONS
from batuta.pipeline.writer import Writer
from batuta.service.database import DatabaseError, open_database

METADATA = sa.MetaData()
LINES = sa.Table("lines", METADATA, sa.Column("number", sa.Integer, primary_key=True))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    with open_database(f"sqlite:///{tmp_path / 'lines.db'}", MIGRATIONS) as opened:
        METADATA.create_all(opened)
        yield opened


@pytest.fixture
async def writer(engine: sa.Engine) -> AsyncIterator[Writer]:
    async with Writer(engine) as opened:
        yield opened


def add(db: sa.Connection) -> int:
    number = db.execute(sa.insert(LINES).returning(LINES.c.number)).scalar_one()
    return int(number)


def count(engine: sa.Engine) -> int:
    with engine.connect() as db:
        return int(db.execute(sa.select(sa.func.count()).select_from(LINES)).scalar_one())


async def test_a_thousand_writes_at_once_share_a_few_commits(
    engine: sa.Engine, writer: Writer
) -> None:
    commits: list[object] = []
    sa.event.listen(engine, "commit", commits.append)
    numbers = await asyncio.gather(*(writer.write(add) for _ in range(1000)))
    assert numbers == list(range(1, 1001))
    assert count(engine) == 1000
    assert len(commits) < 20


async def test_what_the_database_refuses_is_told_and_nothing_of_it_is_kept(
    engine: sa.Engine, writer: Writer
) -> None:
    def refused(db: sa.Connection) -> int:
        add(db)
        return int(db.execute(sa.text("SELECT number FROM nowhere")).scalar_one())

    with pytest.raises(DatabaseError, match=r"lines\.db: no such table: nowhere"):
        await writer.write(refused)
    assert count(engine) == 0
    assert await writer.write(add) == 1


async def test_a_write_is_done_even_if_nobody_waits_for_it_any_more(
    engine: sa.Engine, writer: Writer
) -> None:
    waiting = asyncio.create_task(writer.write(add))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    await writer.write(add)
    assert count(engine) == 2
