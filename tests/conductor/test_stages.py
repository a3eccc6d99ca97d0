"""Preliminary and final: at which stages a product is made, in whatever order its inputs come."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batuta.conductor.database.ledger import Ledger
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.why_views import WhyDetail, WhyViews
from batuta.conductor.decisions.events import Archived
from batuta.conductor.decisions.processing_record import WaitConfig
from batuta.conductor.decisions.rules import Arrival, processing_id_of
from batuta.messaging import ProcessingState as State
from batuta.service.retention import DAY_S
from batuta.stages import FINAL_RANK
from tests.conductor.graphs import graph_of
from tests.conductor.harness import NOTHING, UNLIMITED, Harness, OpenLedger
from tests.conductor.test_outcomes import Hearing
from tests.conductor.test_retention import dropped, prune
from tests.support.query_plans import recorded

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
        self._add(self._harness.take([arrival], UNLIMITED))

    def restart(self) -> None:
        harness = self._harness
        harness.ledger = Ledger(harness.engine, harness.graph, WaitConfig(), harness.clock)

    def work(self, state: State) -> None:
        """End the oldest request in a given state, if there is one."""
        self._harness.clock.advance(1)
        self._add(self._harness.ledger.take_due(UNLIMITED))
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
        self._add(self._harness.take_made([arrival], [made]))

    def _add(self, due: Iterable[DueRequest]) -> None:
        """Take requests of this observation; what is left of others is not of this example."""
        self._due.extend(each for each in due if each.obs_id == self._obs_id)

    def finish(self) -> None:
        # Longer than any wait for a retry, as often as one may follow another.
        for _ in range(4):
            self._harness.clock.advance(400)
            self._add(self._harness.ledger.take_due(UNLIMITED))
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


GRAPH = graph_of(
    ["A", "B"],
    {
        "Quick": {"m_input": ["A"], "stages": "first"},
        "Report": {"m_input": ["A", "B"], "stages": "final"},
        "Map": {"m_input": ["A"], "stages": "first_and_final"},
        "Sum": {"m_input": ["Map"], "stages": "final"},
    },
)


@pytest.fixture
def hearing(open_ledger: OpenLedger) -> Hearing:
    return Hearing(open_ledger(GRAPH))


def _why(hearing: Hearing, product: str) -> WhyDetail:
    late = LateViews(hearing.harness.engine)
    return WhyViews(hearing.views, late).why(product, "o1")


def test_an_event_tells_which_stages_are_waited_for_and_why_one_changes_nothing(
    hearing: Hearing,
) -> None:
    first = hearing.hear("A", 2, stage=PRELIMINARY)
    assert (first.outcome, first.stage) == ("triggered", "preliminary")
    assert set(first.triggered) == {"Quick", "Map"}
    assert first.waiting == {"Report": ["A", "B"]}
    waits = hearing.hear("B", 1)
    assert (waits.outcome, waits.waiting) == ("waiting", {"Report": ["A"]})
    assert waits.reason == "Report waits for the final A; has preliminary v2"
    between = hearing.hear("A", 3, stage=2)
    assert (between.outcome, between.waiting) == ("waiting", {"Report": ["A"]})
    assert hearing.hear("A", 1).outcome == "triggered"
    for version, stage, said in ((4, PRELIMINARY, "preliminary"), (5, 7, "stage 7")):
        late = hearing.hear("A", version, stage=stage)
        assert late.outcome == "ignored"
        assert late.reason == f"final v1 of A is available, and version {version} is {said}"


def test_why_tells_of_stages_back_to_what_is_not_final(hearing: Hearing) -> None:
    hearing.hear("A", 2, stage=PRELIMINARY)
    hearing.hear("B")
    harness = hearing.harness
    quick, of_map = (
        harness.views.processings({"product": each}, 1, None).items[0] for each in ("Quick", "Map")
    )
    for each in (quick, of_map):
        assert each.stage == "preliminary"
        made = Archived(
            processing_id=each.id, product=each.product, obs_id="o1", provider="maker", version=1
        )
        harness.take_made([Arrival(each.product, "o1", 1, archived=True)], [made])
    detail = _why(hearing, "Report")
    assert detail.answer == ("Report was not made: it waits for the final A; has preliminary v2")
    assert (detail.lacks, detail.stages["A"]) == (["A"], "preliminary")
    told = "the final A: batuta import --product A --obs-id o1 --stage final FILE"
    assert detail.needs == [f"{told}, or its announcement on data.*"]
    assert any("A (arrives from outside): not final: has prelim" in each for each in detail.words)
    # A product that is not final is followed back to what it is made from.
    assert [each.product for each in _why(hearing, "Sum").cause.lacks[0].lacks] == ["A"]
    assert _why(hearing, "Sum").needs == detail.needs
    assert _why(hearing, "Map").answer.endswith(
        "; it is preliminary, and made once more from the final A"
    )
    assert _why(hearing, "Quick").answer.endswith(
        "; it is preliminary, and made at no higher stage (stages: first)"
    )
    shown = harness.views.observation("o1")
    assert shown is not None
    found = {each.product: (each.state, each.stage, each.lacks) for each in shown.products}
    assert found["A"] == ("available", "preliminary", [])
    assert found["Map"] == ("available", "preliminary", [])
    assert found["Report"] == ("missing", None, ["A"])


@pytest.mark.parametrize("state", [State.WAITING, State.RETRYING, State.RUNNING, State.HELD])
def test_what_is_not_made_yet_is_superseded_by_a_higher_stage(
    open_ledger: OpenLedger, state: State
) -> None:
    harness = open_ledger(graph_of(["A"], {"R": {"m_input": ["A"]}}))
    preliminary = [Arrival("A", "o1", 1, stage=PRELIMINARY)]
    if state in {State.WAITING, State.HELD}:
        if state is State.HELD:
            harness.hold("maker")
        harness.take(preliminary, NOTHING)
        first = harness.views.processings({"product": "R"}, 1, None).items[0].id
    else:
        (request,) = harness.take(preliminary, UNLIMITED)
        first = request.processing_id
        failed = State.FAILED if state is State.RETRYING else state
        harness.report(request, failed, error="by chance" if failed is State.FAILED else None)
    _, ended = harness.ledger.on_data([Arrival("A", "o1", 2)], [], NOTHING)
    found = harness.views.processing(first)
    assert found is not None
    if state is State.RUNNING:
        assert (found.state, found.max_attempts, ended) == (State.RUNNING, 1, [])
        # Its failure is not retried: it would come after the final one.
        harness.report(request, State.FAILED, error="by chance")
        assert harness.state(request) is State.FAILED
    else:
        assert [getattr(each, "id", None) for each in ended] == [first]
        assert found.state is State.CANCELLED
        assert found.error == "superseded: R is made at the final stage"
    if state is State.HELD:
        harness.release("maker")
    assert harness.due() == ["R"]


def test_a_late_input_of_a_lower_stage_is_left_out_until_it_is_final(
    open_ledger: OpenLedger,
) -> None:
    product: dict[str, object] = {"m_input": ["A"], "o_input": ["O"], "on_late": "improve"}
    harness = open_ledger(graph_of(["A", "O"], {"R": product}))
    (first,) = harness.take([Arrival("A", "o1", 1)], UNLIMITED)
    hearing = Hearing(harness)
    assert hearing.hear("O", 1, stage=PRELIMINARY).reason == (
        "R uses no O of a lower stage than it has"
    )
    harness.report(first, State.SUCCEEDED)
    harness.on_data(("R", "o1", 1))
    assert harness.due() == []
    (second,) = harness.take([Arrival("O", "o1", 2)], UNLIMITED)
    found = harness.views.processing(second.processing_id)
    assert found is not None
    assert found.inputs == {"A": 1, "O": 2}


def test_without_stages_no_statement_is_added_and_processings_are_called_as_before(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    with recorded(harness.engine) as statements:
        (quick, *_) = harness.on_data(("A", "o1", 1))
    assert quick.processing_id == processing_id_of("Quick", "o1", "once")
    asked = "min(coalesce(conductor_processings.stage"
    assert not any(asked in each.sql for each in statements)
    with recorded(harness.engine) as more:
        harness.take([Arrival("A", "o2", 1, stage=PRELIMINARY)], UNLIMITED)
    assert any(asked in each.sql for each in more)


def test_what_was_dropped_keeps_its_stages(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"R": {"m_input": ["A"]}}))
    (request,) = harness.take([Arrival("A", "o1", 2, stage=PRELIMINARY)], UNLIMITED)
    harness.make(request, "R", 1)
    harness.clock.advance(100 * DAY_S)
    assert prune(harness).observations == 1
    assert dropped(harness, "o1") is not None
    # Of the same stage and older, and then of a higher one and older.
    assert harness.take([Arrival("A", "o1", 1, stage=PRELIMINARY)], UNLIMITED) == []
    (again,) = harness.take([Arrival("A", "o1", 1)], UNLIMITED)
    assert again.processing_id == processing_id_of("R", "o1", "once")
    assert again.processing_id != request.processing_id
