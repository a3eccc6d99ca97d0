"""Records of processings are archived and dropped, and a repeated request runs nothing again."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from batuta.messaging import ProcessingState
from batuta.pipeline.messages import Outcome, ProcessingRequest
from batuta.pipeline.pruning import RecordPruner
from batuta.pipeline.schema import MIGRATIONS, processings
from batuta.pipeline.store import ProcessingFilter, ProcessingStore
from batuta.service.committer import Committer
from batuta.service.database import open_database
from batuta.service.record_archive import ArchiveError, read_archive
from batuta.service.retention import DAY_S, RetentionRules

T = TypeVar("T")

RULES = RetentionRules(finished_days=30, failed_days=90)


class Records:
    """The records of a service, which can be made older."""

    def __init__(self, engine: sa.Engine, committer: Committer) -> None:
        self.engine = engine
        self.store = ProcessingStore(engine, committer, ["maker"])

    async def ended(self, processing_id: str, state: ProcessingState, days: float) -> None:
        """Record a processing that ended so many days ago."""
        request = ProcessingRequest(product="B", obs_id="o1", processing_id=processing_id)
        record = (await self.store.submit(request, "maker")).stored.record
        await self.store.record_end(record, state, Outcome(), profiled=False)
        this = processings.c.id == processing_id
        with self.engine.begin() as db:
            older = processings.c.ended - days * DAY_S
            db.execute(sa.update(processings).where(this).values(ended=older))

    async def repeat(self, processing_id: str, **values: Any) -> tuple[bool, ProcessingState]:
        """Request it again; return whether that runs it, and its state."""
        request = ProcessingRequest(product="B", obs_id="o1", processing_id=processing_id, **values)
        submitted = await self.store.submit(request, "maker")
        return submitted.to_run, submitted.stored.record.state

    async def left(self) -> set[str]:
        """Return the ids of the records that are left."""
        return {each.id for each in (await self.store.list_page(ProcessingFilter()))[0]}

    def pruner(self, rules: RetentionRules, *, with_files: bool = False) -> RecordPruner:
        records = self.store.records(rules, with_files=with_files)
        return RecordPruner("maker", records, self.store.commit, lambda _number: None)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Records]:
    with open_database(url, MIGRATIONS) as engine:
        async with Committer(engine) as committer:
            yield Records(engine, committer)


def archive_lines(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*.jsonl.gz")):
        yield from read_archive(folder, str(path.relative_to(folder)))


async def test_a_success_that_was_dropped_is_not_run_again_when_its_request_is_repeated(
    database_url: str,
) -> None:
    async with opened(database_url) as records:
        await records.ended("p1", ProcessingState.SUCCEEDED, 31)
        assert (await records.pruner(RULES).preview()).processings == 1
        assert (await records.pruner(RULES).apply()).processings == 1
        assert await records.left() == set()
        assert await records.repeat("p1") == (False, ProcessingState.SUCCEEDED)
        assert await records.repeat("p1", attempt=2) == (False, ProcessingState.SUCCEEDED)
        found = await records.store.find("p1")
        assert found is not None
        assert found.record.obs_id == "o1"
        # Its product was lost: then it is.
        remade = await records.repeat("p1", attempt=2, remake=True)
        assert remade == (True, ProcessingState.QUEUED)
        assert await records.left() == {"p1"}


@pytest.mark.parametrize(
    ("state", "days", "is_dropped"),
    [
        (ProcessingState.SUCCEEDED, 29, False),
        (ProcessingState.SUCCEEDED, 31, True),
        (ProcessingState.FAILED, 31, False),
        (ProcessingState.FAILED, 91, True),
        (ProcessingState.CANCELLED, 91, True),
        (ProcessingState.RUNNING, 1000, False),
        (ProcessingState.QUEUED, 1000, False),
    ],
)
async def test_what_has_ended_and_is_old_is_dropped(
    tmp_path: Path, state: ProcessingState, days: float, *, is_dropped: bool
) -> None:
    async with opened(f"sqlite:///{tmp_path / 'test.db'}") as records:
        await records.ended("p1", state, days)
        await records.pruner(RULES).apply()
        assert await records.left() == (set() if is_dropped else {"p1"})


async def test_a_record_is_not_dropped_before_its_log(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path / 'test.db'}") as records:
        await records.ended("p1", ProcessingState.SUCCEEDED, 31)
        pruner = records.pruner(RULES, with_files=True)
        assert (await pruner.apply()).processings == 0
        (key,) = await records.store.expired_keys(2**33)
        await records.store.record_removal([key])
        assert (await pruner.apply()).processings == 1


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("commits", [0, 1])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_sweep_that_is_killed_loses_no_record_and_archives_none_twice(
    database_url: str, tmp_path: Path, commits: int, *, restarted: bool
) -> None:
    rules = RULES.model_copy(update={"archive": tmp_path / "archive"})
    async with opened(database_url) as records:
        for number in range(3):
            await records.ended(f"p{number}", ProcessingState.FAILED, 91)
        left = commits

        async def commit(write: Callable[[sa.Connection], T]) -> T:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return await records.store.commit(write)

        store = records.store.records(rules, with_files=False)
        with pytest.raises(Killed):
            await RecordPruner("maker", store, commit, lambda _number: None).apply()
        if restarted:
            assert await records.repeat("p1", attempt=2) == (True, ProcessingState.QUEUED)
        await records.pruner(rules).apply()
        stayed = {"p1"} if restarted else set()
        assert await records.left() == stayed
        counted = Counter(each["id"] for each in archive_lines(tmp_path / "archive"))
        assert counted == Counter({"p0", "p1", "p2"} - stayed)


async def test_what_cannot_be_archived_is_not_dropped(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    rules = RULES.model_copy(update={"archive": tmp_path / "file"})
    async with opened(f"sqlite:///{tmp_path / 'test.db'}") as records:
        await records.ended("p1", ProcessingState.SUCCEEDED, 31)
        pruner = records.pruner(rules)
        with pytest.raises(ArchiveError, match="nothing is dropped"):
            await pruner.apply()
        assert pruner.problem is not None
        assert await records.left() == {"p1"}
