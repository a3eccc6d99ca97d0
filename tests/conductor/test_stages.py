"""Preliminary and final: at which stages a product is made, in whatever order its inputs come."""

from collections import defaultdict, deque
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batuta.conductor.database.due_requests import DueRequest
from batuta.conductor.database.ledger import Ledger
from batuta.conductor.decisions.events import Archived
from batuta.conductor.decisions.processing_record import WaitConfig
from batuta.conductor.decisions.rules import Arrival
from batuta.messaging import ProcessingState as State
from batuta.stages import FINAL_RANK
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, Harness

PRELIMINARY = 0
RULES = ["each", "final", "first_and_final", "first"]


def _products(on_update: str) -> dict[str, dict[str, object]]:
    """A product of each rule made from A and B, and one that is made from the first of these."""
    made: dict[str, dict[str, object]] = {
        rule: {"m_input": ["A", "B"], "stages": rule, "on_update": on_update} for rule in RULES
    }
    return {**made, "next": {"m_input": ["each"], "on_update": on_update}}


class World:
    """An sdb, pipelines that do as they are told, and a conductor that may be started again."""

    def __init__(self, harness: Harness, obs_id: str, *, tells: bool) -> None:
        self._harness = harness
        self._obs_id = obs_id
        self._tells = tells
        self._due: deque[DueRequest] = deque()
        self._versions: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(1))
        self.made: defaultdict[str, list[tuple[int, dict[str, int]]]] = defaultdict(list)

    def arrive(self, name: str, version: int, stage: int | None) -> None:
        self._harness.clock.advance(1)
        arrival = Arrival(name, self._obs_id, version, archived=True, stage=stage)
        self._due.extend(self._harness.take([arrival], UNLIMITED))

    def restart(self) -> None:
        harness = self._harness
        harness.ledger = Ledger(harness.engine, harness.graph, WaitConfig(), harness.clock)

    def work(self, state: State) -> None:
        """Have the oldest request end so, if there is one."""
        self._harness.clock.advance(1)
        self._due.extend(self._harness.ledger.take_due(UNLIMITED))
        if not self._due:
            return
        request = self._due.popleft()
        if state is State.FAILED:
            self._harness.report(request, state, error="by chance")
            return
        record = self._harness.views.processing(request.processing_id)
        assert record is not None
        rank = FINAL_RANK if request.stage is None else request.stage
        self.made[request.product].append((rank, record.inputs))
        version = next(self._versions[request.product])
        made = Archived(
            processing_id=request.processing_id,
            product=request.product,
            obs_id=self._obs_id,
            provider=request.provider,
            version=version,
        )
        # A pipeline of another author may tell no stage.
        told = request.stage if self._tells else None
        arrival = Arrival(request.product, self._obs_id, version, archived=True, stage=told)
        self._due.extend(self._harness.take_made([arrival], [made]))

    def finish(self) -> None:
        # Longer than any wait for a retry, as often as one may follow another.
        for _ in range(4):
            self._harness.clock.advance(400)
            self._due.extend(self._harness.ledger.take_due(UNLIMITED))
            while self._due:
                self.work(State.SUCCEEDED)


@pytest.fixture(scope="module", params=["ignore", "reprocess"])
def played(request: pytest.FixtureRequest) -> Iterator[tuple[str, Harness]]:
    """A conductor that all examples share: each has an observation of its own."""
    # In memory where there is such a folder: no example is about what a disk keeps.
    memory = Path("/dev/shm")  # noqa: S108  the folder inside has a name of its own
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        harness = Harness(
            f"sqlite:///{Path(folder) / 'c.db'}", graph_of(["A", "B"], _products(request.param))
        )
        yield request.param, harness
        harness.close()


NUMBERS = count()
STAGES = st.sampled_from([PRELIMINARY, 1, 2, FINAL_RANK, None])
ARRIVALS = st.lists(st.tuples(st.sampled_from("AB"), STAGES), min_size=2, max_size=6).map(
    lambda news: [(name, version, stage) for version, (name, stage) in enumerate(news, 1)]
)
MEANWHILE = st.lists(st.sampled_from([State.SUCCEEDED, State.FAILED, None]), max_size=3)


def _rank(stage: int | None) -> int:
    return FINAL_RANK if stage is None else stage


@settings(max_examples=20, deadline=None)
@given(data=st.data(), news=ARRIVALS, tells=st.booleans())
def test_any_order_of_versions_and_stages_ends_in_the_same_state(
    played: tuple[str, Harness],
    data: st.DataObject,
    news: list[tuple[str, int, int | None]],
    tells: bool,
) -> None:
    on_update, harness = played
    world = World(harness, f"o{next(NUMBERS)}", tells=tells)
    # Each announcement may come again, and the conductor may be killed between any two.
    for each in data.draw(st.permutations([*news, news[0]])):
        world.arrive(*each)
        for ends in data.draw(MEANWHILE):
            if ends is None:
                world.restart()
            else:
                world.work(ends)
    world.finish()

    best = {
        name: max((_rank(stage), version) for which, version, stage in news if which == name)
        for name in {name for name, _, _ in news}
    }
    if set(best) != {"A", "B"}:
        assert not world.made
        return
    reached = min(rank for rank, _ in best.values())
    newest = {name: version for name, (_, version) in best.items()}
    for product, made in world.made.items():
        ranks = [rank for rank, _ in made]
        assert ranks == sorted(ranks), f"{product} went back"
        if on_update == "ignore":
            assert len(set(ranks)) == len(ranks), f"{product} was made twice at one stage"
    for product in ("each", "next"):
        assert world.made[product][-1][0] == reached
    assert bool(world.made["final"]) == (reached == FINAL_RANK)
    assert {rank for rank, _ in world.made["final"]} <= {FINAL_RANK}
    assert len({rank for rank, _ in world.made["first"]}) == 1
    twice = {rank for rank, _ in world.made["first_and_final"]}
    assert len(twice) == 1 if FINAL_RANK not in twice else len(twice) <= 2
    assert (FINAL_RANK in twice) == (reached == FINAL_RANK)
    if on_update == "reprocess":
        final = ["final", "first_and_final"] if reached == FINAL_RANK else []
        for product in ("each", *final):
            assert (reached, newest) in world.made[product]
