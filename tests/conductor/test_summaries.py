"""Summaries are what a full count says, whatever was done, on every kind of database."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import sqlalchemy as sa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from batuta.conductor.database.claiming.claims import ClaimStore
from batuta.conductor.database.operations.operator_actions import LacksInputsError
from batuta.conductor.database.schema import (
    MIGRATIONS,
    available,
    counts,
    observations,
    processings,
)
from batuta.conductor.database.summaries import Counts, join_parts, read_counts
from batuta.conductor.decisions.differences import Difference, DifferenceKind
from batuta.conductor.decisions.events import PipelineUnreachable, StatusUpdate
from batuta.conductor.decisions.rules import Arrival
from batuta.messaging import ProcessingState as State
from batuta.service.database import open_database, reading
from tests.conductor.graphs import diamond
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger, migrate_to

GRAPH = diamond(on_update="reprocess")
OBSERVATIONS = ["o1", "o2", "o3"]


def counted(engine: sa.Engine) -> Counts:
    """Count by reading everything."""
    found = Counts()
    with reading(engine) as connection:
        rows = connection.execute(sa.select(processings)).all()
        found.processings = Counter((row.product, row.provider, row.state) for row in rows)
        names = connection.execute(sa.select(available.c.obs_id, available.c.product)).all()
        found.available = Counter(row.product for row in names)
        found.observations = len({row.obs_id for row in names})
    return found


def assert_right(engine: sa.Engine) -> None:
    latest = (
        sa.select(available.c.obs_id, sa.func.count(), sa.func.max(available.c.heard))
        .group_by(available.c.obs_id)
        .order_by(available.c.obs_id)
    )
    full = counted(engine)
    with reading(engine) as connection:
        assert read_counts(connection) == full
        kept = connection.execute(sa.select(observations).order_by(observations.c.obs_id)).all()
        assert kept == connection.execute(latest).all()


def delete_old(harness: Harness, table: sa.Table, *, killed: bool) -> None:
    """Delete half of the rows of a table, by the batch, as retention does; or be killed in it."""
    names = list(table.primary_key.columns)
    with harness.engine.connect() as connection:
        ClaimStore(GRAPH).lock_observations(connection, OBSERVATIONS)
        rows = connection.execute(sa.select(*names).order_by(*names)).all()
        keys = [tuple(row) for row in rows[::2]]
        if keys:
            connection.execute(sa.delete(table).where(sa.tuple_(*names).in_(keys)))
        if not killed:
            connection.commit()


Step = Callable[[Harness, str, str, int], object]


def newest(harness: Harness, obs_id: str) -> str:
    found = harness.views.processings({"obs_id": obs_id}, 1, None).items
    return found[0].id if found else "unknown"


def withdraw(kind: DifferenceKind) -> Step:
    def step(harness: Harness, product: str, obs_id: str, number: int) -> None:
        lost = Difference(
            kind=kind,
            product=product,
            obs_id=obs_id,
            recorded=number,
            archived=number - 1 or None,
            processing_id=newest(harness, obs_id),
        )
        harness.ledger.operations.correct([lost])

    return step


def report(state: State) -> Step:
    return lambda harness, _product, obs_id, _number: harness.apply(
        StatusUpdate(processing_id=newest(harness, obs_id), state=state, attempt=1, archived=True)
    )


def make(harness: Harness, _product: str, obs_id: str, _number: int) -> None:
    with suppress(LacksInputsError):
        harness.ledger.operations.make("D", obs_id)


STEPS: dict[str, Step] = {
    "arrive": lambda harness, product, obs_id, number: harness.take(
        [Arrival(product, obs_id, number, archived=number > 1)], UNLIMITED
    ),
    "arrive together": lambda harness, product, _, number: harness.take(
        [Arrival(product, obs_id, number) for obs_id in OBSERVATIONS], UNLIMITED
    ),
    "rebuild": lambda harness, product, _, number: harness.ledger.rebuild(
        [Arrival(product, obs_id, number, archived=True) for obs_id in OBSERVATIONS]
    ),
    "take due": lambda harness, *_: harness.due(),
    "time passes": lambda harness, *_: harness.clock.advance(100),
    "clock set back": lambda harness, *_: harness.clock.advance(-150),
    "unreachable": lambda harness, _product, obs_id, _number: harness.apply(
        PipelineUnreachable(processing_id=newest(harness, obs_id), error="no")
    ),
    **{
        f"report {state}": report(state) for state in (State.RUNNING, State.SUCCEEDED, State.FAILED)
    },
    "make": make,
    "hold": lambda harness, *_: harness.hold(None),
    "release": lambda harness, *_: harness.release(None),
    "cancel": lambda harness, _product, obs_id, _number: harness.ledger.operations.cancel(
        newest(harness, obs_id), "not wanted"
    ),
    "retry": lambda harness, _product, obs_id, _number: harness.ledger.operations.retry(
        newest(harness, obs_id)
    ),
    **{f"{kind}": withdraw(kind) for kind in DifferenceKind},
    "delete processings": lambda harness, *_: delete_old(harness, processings, killed=False),
    "delete available": lambda harness, *_: delete_old(harness, available, killed=False),
    "killed in processings": lambda harness, *_: delete_old(harness, processings, killed=True),
    "killed in available": lambda harness, *_: delete_old(harness, available, killed=True),
    "join": lambda harness, *_: join_parts(harness.engine),
}
steps = st.lists(
    st.tuples(
        st.sampled_from(sorted(STEPS)),
        st.integers(0, 1),
        st.sampled_from("ABCD"),
        st.sampled_from(OBSERVATIONS),
        st.integers(1, 3),
    ),
    max_size=15,
)


def test_summaries_are_what_a_full_count_says(open_ledger: OpenLedger) -> None:
    # Two conductors, so that counts have several parts; each example goes on from the last one.
    conductors = [open_ledger(GRAPH), open_ledger(GRAPH)]

    # What went wrong depends on all examples before: there is nothing smaller to look for.
    @settings(max_examples=12, deadline=None, phases=[Phase.generate], database=None)
    @given(steps)
    def play(asked: list[tuple[str, int, str, str, int]]) -> None:
        for name, who, product, obs_id, number in asked:
            STEPS[name](conductors[who], product, obs_id, number)
            assert_right(conductors[who].engine)

    play()
    for harness in conductors:
        join_parts(harness.engine)
    assert_right(conductors[0].engine)


def test_conductors_that_count_at_once_neither_wait_for_each_other_nor_miscount(
    open_ledger: OpenLedger,
) -> None:
    conductors = [open_ledger(GRAPH) for _ in range(3)]

    def play(number: int) -> None:
        harness = conductors[number]
        for turn in range(8):
            names = OBSERVATIONS[:: (-1) ** number]
            arrivals = [Arrival("A", obs_id, turn + 1) for obs_id in names]
            harness.take(arrivals, UNLIMITED)
            harness.due()
            delete_old(harness, available, killed=False)
            join_parts(harness.engine)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(play, range(3)))
    assert_right(conductors[0].engine)


def test_parts_are_joined_into_one(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    harness.on_data(("A", "o1", 1))
    before = harness.views.counts()
    join_parts(harness.engine)
    with reading(harness.engine) as connection:
        assert set(connection.scalars(sa.select(counts.c.part))) == {0}
    assert harness.views.counts() == before == counted(harness.engine)


def test_a_database_of_before_summaries_is_counted_once(empty_database_url: str) -> None:
    engine = sa.create_engine(empty_database_url.replace("postgresql:", "postgresql+psycopg:"))
    migrate_to("0006", engine)
    with engine.begin() as connection:
        for number in range(5):
            row = {"obs_id": f"o{number % 2}", "product": f"P{number}", "version": 1, "heard": 1.0}
            connection.execute(sa.insert(available).values(row))
    engine.dispose()
    for _ in range(2):
        with open_database(empty_database_url, MIGRATIONS) as opened:
            assert_right(opened)
            assert counted(opened).observations == 2


@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_state_that_nothing_is_in_is_not_listed(open_ledger: OpenLedger, state: str) -> None:
    harness = open_ledger(GRAPH)
    (first, *_) = harness.on_data(("A", "o1", 1))
    harness.report(first, State(state))
    harness.report(first, State.SUCCEEDED)
    assert state not in harness.views.counts().by_state()
