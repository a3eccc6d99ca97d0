"""The store of processings, on every kind of database."""

import pytest

from batuta.messaging import ProcessingState
from batuta.pipeline.messages import Outcome, ProcessingRequest
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


@pytest.mark.parametrize("remake", [False, True])
async def test_a_success_is_run_again_only_if_its_product_was_lost(
    database_url: str, *, remake: bool
) -> None:
    first = ProcessingRequest(product="B", obs_id="o1", processing_id="p1")
    again = first.model_copy(update={"attempt": 2, "remake": remake})
    with open_database(database_url, MIGRATIONS) as engine:
        async with Committer(engine) as committer:
            store = ProcessingStore(engine, committer, ["maker"])
            record = (await store.submit(first, "maker")).stored.record
            await store.record_end(record, ProcessingState.SUCCEEDED, Outcome(), profiled=False)
            submission = await store.submit(again, "maker")
    assert submission.to_run is remake
    assert submission.stored.record.attempt == (2 if remake else 1)


async def test_what_is_still_queued_becomes_the_later_attempt_and_is_made_from_its_inputs(
    database_url: str,
) -> None:
    first = ProcessingRequest(product="B", obs_id="o1", processing_id="p1", inputs={"A": 1})
    again = first.model_copy(update={"attempt": 2, "inputs": {"A": 1, "C": 1}})
    third = first.model_copy(update={"attempt": 3, "inputs": {"A": 2}})
    with open_database(database_url, MIGRATIONS) as engine:
        async with Committer(engine) as committer:
            store = ProcessingStore(engine, committer, ["maker"])
            await store.submit(first, "maker")
            submission = await store.submit(again, "maker")
            assert not submission.to_run, "it is in the queue already"
            assert submission.stored.record.attempt == 2
            await store.submit(first, "maker")  # late: it is not the last one
            run = (await store.record_start("p1")).current_run
            assert (run.attempt, run.given) == (2, {"A": 1, "C": 1})
            # What runs is what it was.
            assert (await store.submit(third, "maker")).stored.record.attempt == 2


@pytest.mark.parametrize(
    ("processing_id", "named_by_it"),
    [
        ("9c6b0b88-2b42-4035-97f2-48bfac5ddce8", True),
        ("9C6B0B88-2B42-4035-97F2-48BFAC5DDCE8", False),
        ("p1", False),
        ("9c6b0b882b42403597f248bfac5ddce8", False),
    ],
)
async def test_files_are_named_by_the_id_of_their_processing_where_it_is_safe(
    database_url: str, processing_id: str, *, named_by_it: bool
) -> None:
    request = ProcessingRequest(product="A", obs_id="o1", processing_id=processing_id)
    with open_database(database_url, MIGRATIONS) as engine:
        async with Committer(engine) as committer:
            stored = (
                await ProcessingStore(engine, committer, ["maker"]).submit(request, "maker")
            ).stored
    assert (stored.key == processing_id) is named_by_it
    assert stored.current_run.run_id == f"{stored.key}-0"
