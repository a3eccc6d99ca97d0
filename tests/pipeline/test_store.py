"""The store of processings, on every kind of database."""

from batuta.messaging import ProcessingState
from batuta.pipeline.messages import ProcessingRequest
from batuta.pipeline.schema import MIGRATIONS
from batuta.pipeline.store import ProcessingFilter, ProcessingStore
from batuta.service.committer import Committer
from batuta.service.database import open_database


async def test_pipelines_that_share_a_database_recover_only_their_own(database_url: str) -> None:
    with open_database(database_url, MIGRATIONS) as engine:
        async with Committer(engine) as committer:
            mine, other = (ProcessingStore(engine, committer, [name]) for name in ("mine", "other"))
            request = ProcessingRequest(product="A", obs_id="o1")
            submitted = await mine.submit(request, "mine")
            await mine.record_start(submitted.stored.record.id)
            assert await other.recover() == []
            assert await other.list_page(ProcessingFilter()) == ([], None)
            found = await mine.find(submitted.stored.record.id)
            assert found is not None
            assert found.record.state is ProcessingState.RUNNING
            (again,) = await mine.recover()
            assert again.record.state is ProcessingState.QUEUED
