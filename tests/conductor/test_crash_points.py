"""Killed at any boundary of a transaction, a conductor goes on: each product is made once.

Each scenario is played once to count its transactions; then once for each of them, killed before
its commit, and once more killed right after it, before anything that follows.
"""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from batuta.conductor import hold_watch
from batuta.conductor.database.campaign_schema import items
from batuta.conductor.database.campaigns import campaign_parts, campaign_rounds
from batuta.conductor.database.graphs import settling
from batuta.conductor.database.holds.hold_store import Wanted
from batuta.conductor.database.operations import order_sets
from batuta.conductor.database.operations.order_sets import (
    OrderSets,
    SetFilters,
    SetOrder,
    states_of,
)
from batuta.conductor.database.orders import OrderView, OrderViews
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.schema import history, processings
from batuta.conductor.decisions.campaigns import CampaignOrder, CampaignState
from batuta.conductor.decisions.events import Archived, Event, StatusUpdate, UnknownToPipeline
from batuta.conductor.decisions.holds import Hold, Scope
from batuta.conductor.decisions.order_sets import SetCommand
from batuta.conductor.decisions.requests import Poll
from batuta.conductor.decisions.rules import Arrival
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.service.operators import Operator
from tests.conductor.campaign_player import CampaignPlayer, target_of
from tests.conductor.graphs import diamond, graph_of
from tests.conductor.harness import NOTHING, UNLIMITED, Harness
from tests.support.crash_points import CrashPoints, KilledError

ANA = Operator("ana")
NAMES = [f"o{number}" for number in range(5)]
MAX_STEPS = 300


@dataclass
class World:
    """What a kill of the conductor leaves as it is: its pipeline, the sdb, and what is announced.

    `made` counts how often the function of a pipeline has made each product.
    """

    known: dict[str, DueRequest] = field(default_factory=dict)
    made: Counter[tuple[str, str]] = field(default_factory=Counter)
    versions: Counter[tuple[str, str]] = field(default_factory=Counter)
    announced: list[tuple[Arrival, Archived | None]] = field(default_factory=list)

    def arrive(self, *names: tuple[str, str]) -> None:
        """Announce inputs."""
        for product, obs_id in names:
            self.announced.append((self._next(product, obs_id, archived=False), None))

    def request(self, request: DueRequest) -> None:
        """Make a product, unless that was requested before: a request may be repeated."""
        if request.processing_id in self.known:
            return
        self.known[request.processing_id] = request
        self.made[request.product, request.obs_id] += 1
        arrival = self._next(request.product, request.obs_id, archived=True)
        made = Archived(
            processing_id=request.processing_id,
            product=request.product,
            obs_id=request.obs_id,
            provider=request.provider,
            version=arrival.version,
        )
        self.announced.append((arrival, made))

    def answer(self, poll: Poll) -> Event:
        """Answer the poll of a processing."""
        record = poll.record
        if record.id in self.known:
            return StatusUpdate(
                processing_id=record.id,
                attempt=record.attempt,
                state=State.SUCCEEDED,
                archived=True,
            )
        return UnknownToPipeline(
            processing_id=record.id,
            asked_attempt=record.attempt,
            polled_state=record.state,
            counts_attempts=True,
        )

    def _next(self, product: str, obs_id: str, *, archived: bool) -> Arrival:
        self.versions[product, obs_id] += 1
        return Arrival(product, obs_id, self.versions[product, obs_id], archived=archived)


class Orchestra:
    """A conductor in this thread, killed at a point, and the world around it."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.world = World()
        self.background: list[Callable[[], object]] = []
        self.player = CampaignPlayer(harness)
        self.goes_on: Callable[[], bool] = lambda: False
        """Whether the order of the scenario has not been completed."""

    def play(self, points: CrashPoints, at: int = 0, *, after: bool = False) -> int:
        """Play to the end, killed at a commit; return how many commits there were."""
        killed = at == 0
        with points.armed(at, after=after):
            for _ in range(MAX_STEPS):
                try:
                    if not self._step():
                        assert killed, "nothing was killed"
                        return points.commits
                except KilledError:
                    killed = True
                    self.harness.restart()
                    self.player.restart()
        raise AssertionError(f"goes on after {MAX_STEPS} steps")

    def _step(self) -> bool:
        """Do a little of all; return whether anything is left to do."""
        world, ledger = self.world, self.harness.ledger
        self.harness.clock.advance(1)
        delivered = world.announced[:3]
        made = [each for _, each in delivered if each is not None]
        requests, _ = ledger.on_data([each for each, _ in delivered], made, UNLIMITED)
        # Acknowledged once that is committed; another kill has them delivered again.
        del world.announced[: len(delivered)]
        for request in requests:
            world.request(request)
        for work in self.background:
            work()
        done = ledger.advance([], UNLIMITED, UNLIMITED)
        for request in done.requests:
            world.request(request)
        answers = [world.answer(poll) for poll in done.polls]
        if answers:
            ledger.apply(answers)
        return bool(world.announced) or self._is_open()

    def _is_open(self) -> bool:
        ended = [State.SUCCEEDED, State.FAILED, State.CANCELLED]
        query = sa.select(processings.c.id).where(processings.c.state.not_in(ended)).limit(1)
        with self.harness.engine.connect() as connection:
            return connection.scalar(query) is not None or self.goes_on()


Scenario = Callable[[Orchestra], Callable[[], None]]
"""Prepares an orchestra, and returns what is checked at its end."""


def campaign(orchestra: Orchestra) -> Callable[[], None]:
    """A campaign over all of what was made before, by parts and in rounds."""
    player, world = orchestra.player, orchestra.world
    world.arrive(*(("A", obs_id) for obs_id in NAMES[:2]))
    orchestra.play(CrashPoints(orchestra.harness.engine))
    number = player.plan(target_of("B", "C", "D"), max_concurrent=4)
    player.order(number, CampaignOrder.START)

    def state() -> CampaignState:
        found = orchestra.player.views.find(number)
        assert found is not None
        return found.state

    orchestra.background.append(lambda: orchestra.player.round(number))
    orchestra.goes_on = lambda: not state().ended

    def check() -> None:
        assert state() is CampaignState.DONE
        assert world.made == {(name, obs): 2 for name in "BCD" for obs in NAMES[:2]}
        of_last = [each.inputs for each in world.known.values() if each.product == "D"]
        assert sorted(of_last) == ['{"B": 1, "C": 1}'] * 2 + ['{"B": 2, "C": 2}'] * 2
        found = orchestra.player.views.find(number)
        assert found is not None
        assert (found.progress.made, found.progress.total) == (6, 6)
        with orchestra.harness.engine.connect() as connection:
            assert connection.execute(sa.select(items)).all() == []

    return check


def graph(orchestra: Orchestra) -> Callable[[], None]:
    """A new graph, put in force over observations that are settled by the page."""
    harness, world = orchestra.harness, orchestra.world
    world.arrive(*(("A", obs_id) for obs_id in NAMES))
    orchestra.play(CrashPoints(harness.engine))
    world.versions.clear()
    world.made.clear()
    more = graph_of(["A"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["B"]}})
    applied: list[int] = []

    def apply_and_settle() -> None:
        if not applied:
            applied.append(orchestra.harness.versions.apply(more, ANA).version.number)
        found = orchestra.harness.versions.unsettled()
        if found is not None:
            orchestra.harness.ledger.settle(found.number, found.after, found.work_class)

    orchestra.background.append(apply_and_settle)
    orchestra.goes_on = lambda: not applied or orchestra.harness.versions.unsettled() is not None

    def check() -> None:
        assert world.made == {("C", obs_id): 1 for obs_id in NAMES}
        settled = orchestra.harness.versions.page(9, None).items
        assert all(each.settled is not None for each in settled)

    return check


def of_sets(orchestra: Orchestra, command: SetCommand) -> Callable[[], OrderView]:
    """Order something for all of B; it is carried out as the orchestra is played."""

    def sets() -> OrderSets:
        return orchestra.harness.ledger.order_sets

    def carry_out() -> None:
        found = sets().under_way()
        if found is not None:
            ids, position = sets().next_batch(found)
            sets().carry_out(found, ids, position)

    filters = SetFilters(columns={"product": "B"}, states=states_of(command, []))
    given = SetOrder(command=command, filters=filters, by=ANA)
    number = sets().begin(given, sets().select(filters).total)
    orchestra.harness.clock.advance(1)
    orchestra.background.append(carry_out)
    orchestra.goes_on = lambda: sets().under_way() is not None

    def order() -> OrderView:
        found = OrderViews(orchestra.harness.engine).find(number)
        assert found is not None
        return found

    return order


def set_of_cancellations(orchestra: Orchestra) -> Callable[[], None]:
    """All that a hold keeps back is cancelled."""
    harness = orchestra.harness
    harness.hold()
    harness.take([Arrival("A", obs_id, 1) for obs_id in NAMES], NOTHING)
    order = of_sets(orchestra, SetCommand.CANCEL)

    def check() -> None:
        assert orchestra.world.made == {}
        assert (order().changed, order().selected) == (len(NAMES), len(NAMES))
        assert orchestra.harness.views.counts().by_state() == {"cancelled": len(NAMES)}

    return check


def set_of_retries(orchestra: Orchestra) -> Callable[[], None]:
    """All that was cancelled is retried, and made."""
    harness = orchestra.harness
    harness.take([Arrival("A", obs_id, 1) for obs_id in NAMES], NOTHING)
    for each in harness.views.processings({}, 10, None).items:
        harness.ledger.operations.cancel(each.id, "a mistake")
    harness.clock.advance(1)
    order = of_sets(orchestra, SetCommand.RETRY)

    def check() -> None:
        assert orchestra.world.made == {("B", obs_id): 1 for obs_id in NAMES}
        assert order().changed == len(NAMES)
        retried = [each for each in histories(orchestra) if each.startswith("retried")]
        assert len(retried) == len(NAMES)

    return check


def histories(orchestra: Orchestra) -> list[str]:
    with orchestra.harness.engine.connect() as connection:
        return list(connection.scalars(sa.select(history.c.what)))


def hold(orchestra: Orchestra) -> Callable[[], None]:
    """What waits is marked as held, a little at a time, and then let go at a rate."""
    harness, world = orchestra.harness, orchestra.world
    harness.take([Arrival("A", obs_id, 1) for obs_id in NAMES], NOTHING)
    number = harness.ledger.holds.place(Wanted(scope=Scope(product="B"), by=ANA)).number

    def found() -> Hold:
        each = orchestra.harness.ledger.holds.find(number)
        assert each is not None
        return each

    def carry_out() -> None:
        before = found()
        if before.released is None:
            assert world.made == {}, "requested although it was held"
            if before.applied:
                orchestra.harness.ledger.holds.release(number, ANA, "60/min")
        else:
            elapsed_s = orchestra.harness.clock() - before.released
            assert world.made.total() <= elapsed_s + 1, "faster than the rate"
        orchestra.harness.carry_out_holds()

    orchestra.background.append(carry_out)
    orchestra.goes_on = lambda: found().ended is None

    def check() -> None:
        assert world.made == {("B", obs_id): 1 for obs_id in NAMES}

    return check


CHAIN = graph_of(["A"], {"B": {"m_input": ["A"]}})
SCENARIOS: dict[str, tuple[Graph, Scenario]] = {
    "campaign": (diamond(on_update="reprocess"), campaign),
    "graph": (CHAIN, graph),
    "cancelled set": (CHAIN, set_of_cancellations),
    "retried set": (CHAIN, set_of_retries),
    "hold": (CHAIN, hold),
}


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split all work into several batches."""
    monkeypatch.setattr(campaign_rounds, "BATCH", 2)
    monkeypatch.setattr(campaign_parts, "MAX_ITEMS", 4)
    monkeypatch.setattr(order_sets, "BATCH", 2)
    monkeypatch.setattr(hold_watch, "MAX_AT_ONCE", 2)
    monkeypatch.setattr(settling, "OBSERVATIONS", 2)
    monkeypatch.setattr(settling, "_PAGE", settling._PAGE.limit(2))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crash_points") / "template.db"
    Harness(f"sqlite:///{path}", CHAIN).close()
    return path


def play(url: str, name: str, at: int, *, after: bool) -> int:
    """Play a scenario, killed at a commit; return how many commits there were."""
    graph_, scenario = SCENARIOS[name]
    harness = Harness(url, graph_)
    try:
        orchestra = Orchestra(harness)
        check = scenario(orchestra)
        commits = orchestra.play(CrashPoints(harness.engine), at, after=after)
        check()
    finally:
        harness.close()
    return commits


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", list(SCENARIOS))
def test_killed_at_any_commit_each_product_is_made_once_and_the_order_is_completed(
    template: Path, tmp_path: Path, name: str, after: bool
) -> None:
    def copy(number: int) -> str:
        path = tmp_path / f"{number}.db"
        shutil.copy(template, path)
        return f"sqlite:///{path}"

    commits = play(copy(0), name, 0, after=False)
    assert commits > 10
    for at in range(1, commits + 1):
        play(copy(at), name, at, after=after)


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_killed_once_it_goes_on_with_either_database(database_url: str, name: str) -> None:
    play(database_url, name, 7, after=True)
