"""Writes from an event loop: committed together, in order, and never half."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from batuta.service.committer import Committer

METADATA = sa.MetaData()
LINES = sa.Table("lines", METADATA, sa.Column("number", sa.Integer, primary_key=True))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    opened = sa.create_engine(f"sqlite:///{tmp_path / 'lines.db'}")
    METADATA.create_all(opened)
    yield opened
    opened.dispose()


@pytest.fixture
async def committer(engine: sa.Engine) -> AsyncIterator[Committer]:
    async with Committer(engine) as opened:
        yield opened


def add(db: sa.Connection) -> int:
    number = db.execute(sa.insert(LINES).returning(LINES.c.number)).scalar_one()
    return int(number)


def count(engine: sa.Engine) -> int:
    with engine.connect() as db:
        return int(db.execute(sa.select(sa.func.count()).select_from(LINES)).scalar_one())


async def test_a_thousand_writes_at_once_share_a_few_commits(
    engine: sa.Engine, committer: Committer
) -> None:
    commits: list[object] = []
    sa.event.listen(engine, "commit", commits.append)
    numbers = await asyncio.gather(*(committer.commit(add) for _ in range(1000)))
    assert numbers == list(range(1, 1001))
    assert count(engine) == 1000
    assert len(commits) < 20


async def test_a_refused_write_raises_and_leaves_nothing(
    engine: sa.Engine, committer: Committer
) -> None:
    def refused(db: sa.Connection) -> int:
        add(db)
        return int(db.execute(sa.text("SELECT number FROM nowhere")).scalar_one())

    with pytest.raises(sa.exc.OperationalError, match="no such table: nowhere"):
        await committer.commit(refused)
    assert count(engine) == 0
    assert await committer.commit(add) == 1


async def test_a_write_is_committed_even_if_its_caller_was_cancelled(
    engine: sa.Engine, committer: Committer
) -> None:
    waiting = asyncio.create_task(committer.commit(add))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    await committer.commit(add)
    assert count(engine) == 2
