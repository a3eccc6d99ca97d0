"""What a pipeline asks of its database costs the same however many processings it has had."""

from itertools import product as combinations

import pytest

from batuta.messaging import ProcessingState
from batuta.pipeline.messages import ProcessingRequest
from batuta.pipeline.schema import MIGRATIONS, processings
from batuta.pipeline.store import ProcessingFilter, ProcessingStore
from batuta.service.committer import Committer
from batuta.service.database import open_database
from tests.support.query_plans import costly_queries, recorded

BIG = [processings.name]


async def test_no_list_reads_or_sorts_a_whole_table(database_url: str) -> None:
    with open_database(database_url, MIGRATIONS) as engine:
        async with Committer(engine) as committer:
            store = ProcessingStore(engine, committer, ["maker", "other"])
            with recorded(engine) as statements:
                for state, product, obs_id, before in combinations(
                    (None, ProcessingState.FAILED), (None, "B"), (None, "o1"), (None, 10)
                ):
                    await store.list_page(
                        ProcessingFilter(state=state, product=product, obs_id=obs_id, before=before)
                    )
                await store.expired_keys(1e9)
                await store.find("unknown")
                await store.recover()
        assert len(statements) > 16
        assert costly_queries(engine, statements, BIG) == {}


@pytest.mark.parametrize("product", ["B", "C"])
async def test_pages_follow_one_another(database_url: str, product: str) -> None:
    with open_database(database_url, MIGRATIONS) as engine:
        async with Committer(engine) as committer:
            store = ProcessingStore(engine, committer, ["maker"])
            for number in range(8):
                request = ProcessingRequest(product="BC"[number % 2], obs_id=f"o{number}")
                await store.submit(request, "maker")
            found: list[str] = []
            before: int | None = None
            while True:
                page, before = await store.list_page(
                    ProcessingFilter(product=product, before=before, limit=3)
                )
                found += [each.obs_id for each in page]
                if before is None:
                    break
            assert found == [
                f"o{number}" for number in range(7, -1, -1) if "BC"[number % 2] == product
            ]
