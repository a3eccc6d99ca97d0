"""What follows from a new version of an input, from the same bytes, and from a withdrawal."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.schema import MIGRATIONS, available, processings
from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.decisions.differences import Difference, DifferenceKind
from batuta.conductor.decisions.events import Archived, Busy
from batuta.conductor.decisions.outcomes import HeardEvent
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.decisions.stages import Reached, Staged
from batuta.conductor.decisions.staleness import Available, Staleness, staleness_of
from batuta.messaging import ProcessingState as State
from batuta.stages import FINAL_RANK
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger
from tests.pipeline.test_profile_store import first_revision_database

REMADE = {"on_update": "reprocess"}
DIAMOND = graph_of(
    ["A", "X"],
    {
        "B": {"m_input": ["A"], **REMADE},
        "C": {"m_input": ["A", "X"], **REMADE},
        "D": {"m_input": ["A", "B", "C"], **REMADE},
    },
)
KEPT = graph_of(
    ["A"],
    {
        "B": {"m_input": ["A"]},
        "C": {"m_input": ["B"], **REMADE},
    },
)
OPTIONAL = graph_of(
    ["A"],
    {
        "B": {"m_input": ["A"], **REMADE},
        "D": {"m_input": ["A"], "o_input": ["B"], "o_wait": 60, **REMADE},
    },
)


class Player:
    """Plays the sources, the pipelines and the sdb of one observation."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.versions: dict[str, int] = {}
        self.made: list[str] = []
        self.open: list[DueRequest] = []

    def arrives(self, product: str, content: str | None = None) -> None:
        self.open += self.harness.take([self._next(product, content)], UNLIMITED)

    def makes(self, product: str, content: str | None = None) -> None:
        """End the request of a product that is the first to be open."""
        request = next(each for each in self.open if each.product == product)
        self.open.remove(request)
        self.made.append(f"{product}: {request.inputs}")
        self.archives(request, content)

    def archives(self, request: DueRequest, content: str | None = None) -> None:
        arrival = self._next(request.product, content)
        made = Archived(
            processing_id=request.processing_id,
            product=request.product,
            obs_id="o1",
            provider="maker",
            version=arrival.version,
        )
        self.open += self.harness.take_made([arrival], [made])

    def makes_all(self) -> list[str]:
        while self.open:
            self.makes(self.open[0].product)
        made, self.made = self.made, []
        return made

    def withdraws(self, product: str, version: int, left: int | None = None) -> list[str]:
        """Withdraw a version; return the products whose processings are stopped."""
        lost = Difference(
            kind=DifferenceKind.WITHDRAWN,
            product=product,
            obs_id="o1",
            recorded=version,
            archived=left,
            reason="noise",
        )
        stopped = self.harness.ledger.operations.correct([lost])
        self.open += self.harness.ledger.take_due(UNLIMITED)
        return [each.before.product for each in stopped]

    def stale(self) -> dict[str, str | None]:
        page = self.harness.views.processings({}, 100, None, stale=True)
        return {each.product: each.stale_because for each in page.items}

    def _next(self, product: str, content: str | None) -> Arrival:
        version = self.versions[product] = self.versions.get(product, 0) + 1
        digest = content or f"{product}{version}"
        return Arrival(product, "o1", version, archived=True, sha256=digest)


@pytest.mark.parametrize(
    ("available", "because", "outdated"),
    [
        ({"A": (1, {}), "B": (1, {"A": 1})}, {}, set()),
        ({"A": (2, {}), "B": (1, {"A": 1})}, {"B": "made from A v1, and v2 is available"}, {"B"}),
        ({"A": (1, {}), "B": (2, {"A": 2})}, {"B": "made from A v2, and v1 is available"}, {"B"}),
        ({"B": (1, {"A": 1})}, {"B": "made from A v1, which is not available any more"}, {"B"}),
        ({"A": (2, {}), "B": (1, {"A": 0})}, {}, set()),
        ({"A": (2, {}), "B": (1, {})}, {}, set()),
        (
            {"A": (2, {}), "B": (1, {"A": 1}), "C": (1, {"A": 2}), "D": (1, {"A": 2, "B": 1})},
            {"B": "made from A v1, and v2 is available", "D": "B is stale"},
            {"B", "D"},
        ),
    ],
)
def test_a_product_is_stale_if_what_it_was_made_from_is_not_what_is_available(
    available: dict[str, tuple[int, dict[str, int]]], because: dict[str, str], outdated: set[str]
) -> None:
    found = staleness_of(DIAMOND, {name: Available(*each) for name, each in available.items()})
    assert found == Staleness(because, frozenset(outdated))


def test_what_is_kept_is_stale_and_not_outdated_and_what_follows_from_it_too() -> None:
    available = {"A": Available(2), "B": Available(1, {"A": 1}), "C": Available(1, {"B": 1})}
    found = staleness_of(KEPT, available)
    assert set(found.because) == {"B", "C"}
    assert found.outdated == frozenset()


@pytest.mark.parametrize(
    ("keys", "outdated"),
    [
        ({"on_update": "reprocess"}, {"B"}),
        ({"on_update": "reprocess", "stages": "first"}, set()),
        ({"on_update": "ignore"}, {"B"}),
        ({"on_update": "ignore", "stages": "first"}, set()),
    ],
)
def test_what_is_made_at_no_higher_stage_is_stale_and_awaited_by_nothing(
    keys: dict[str, str], outdated: set[str]
) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"], **keys}})
    available = {"A": Available(2), "B": Available(1, {"A": 1})}
    staged = Staged({"A": FINAL_RANK, "B": 0}, {"B": Reached(0, 0)})
    found = staleness_of(graph, available, staged)
    assert set(found.because) == {"B"}
    assert set(found.outdated) == outdated


def test_a_new_version_remakes_what_follows_in_order_and_each_once(open_ledger: OpenLedger) -> None:
    player = Player(open_ledger(DIAMOND))
    player.arrives("A")
    player.arrives("X")
    assert player.makes_all() == [
        'B: {"A": 1}',
        'C: {"A": 1, "X": 1}',
        'D: {"A": 1, "B": 1, "C": 1}',
    ]
    player.arrives("A")
    assert set(player.stale()) == {"B", "C", "D"}
    assert [each.product for each in player.open] == ["B", "C"]
    player.makes("B")
    assert [each.product for each in player.open] == ["C"]
    why = player.harness.views.why("D", "o1")
    assert why.awaits == ["C"]
    assert "it waits for C, made again first" in why.answer
    assert player.makes_all()[1:] == ['C: {"A": 2, "X": 1}', 'D: {"A": 2, "B": 2, "C": 2}']
    assert player.stale() == {}
    # Exactly what was made from the old one.
    player.arrives("X")
    assert set(player.stale()) == {"C", "D"}
    assert player.makes_all() == ['C: {"A": 2, "X": 2}', 'D: {"A": 2, "B": 2, "C": 3}']


def test_what_is_not_remade_is_marked_and_told_once(open_ledger: OpenLedger) -> None:
    player = Player(open_ledger(KEPT))
    player.arrives("A")
    player.makes_all()
    player.arrives("A")
    assert player.open == []
    assert player.stale() == {
        "B": "made from A v1, and v2 is available",
        "C": "B is stale",
    }
    ledger, views = player.harness.ledger, player.harness.views
    assert [row.product for row in ledger.take_stale()] == ["B", "C"]
    assert ledger.take_stale() == []
    assert views.stale_count() == 2
    why = views.why("B", "o1")
    assert why.answer.endswith("; it is stale: made from A v1, and v2 is available")
    detail = views.observation("o1")
    assert detail is not None
    assert {each.product: each.stale for each in detail.products}["C"] == "B is stale"
    ledger.operations.make("B", "o1")
    player.open += ledger.take_due(UNLIMITED)
    assert player.makes_all() == ['B: {"A": 2}', 'C: {"B": 2}']
    assert player.stale() == {}


def test_the_same_bytes_again_change_nothing_and_say_so(open_ledger: OpenLedger) -> None:
    player = Player(open_ledger(KEPT))
    player.arrives("A")
    player.makes_all()
    heard = HeardEvent(
        id="again", source="sdb", received=1.0, sequence=1, product="A", obs_id="o1", version=2
    )
    repeated = Arrival("A", "o1", 2, archived=True, sha256="A1")
    assert player.harness.take([repeated], UNLIMITED, [heard]) == []
    events = EventViews(player.harness.engine, KEPT, player.harness.views)
    told = events.find("again")
    assert told is not None
    assert told.reason == "version 2 of A has the bytes of version 1"
    assert player.stale() == {}
    player.versions["A"] = 2
    # Also of what is made again: what follows from it stays.
    player.harness.ledger.operations.make("B", "o1")
    player.open += player.harness.ledger.take_due(UNLIMITED)
    player.makes("B", content="B1")
    assert (player.open, player.stale()) == ([], {})
    player.arrives("A")
    assert set(player.stale()) == {"B", "C"}


def test_versions_that_arrive_out_of_order_end_with_the_newest(open_ledger: OpenLedger) -> None:
    player = Player(open_ledger(DIAMOND))
    for version in (2, 1, 3):
        player.versions["A"] = version - 1
        player.arrives("A")
    player.arrives("X")
    # The one that was requested goes on; what comes meanwhile is made once, from the newest.
    assert player.makes_all() == [
        'B: {"A": 2}',
        'C: {"A": 3, "X": 1}',
        'B: {"A": 3}',
        'D: {"A": 3, "B": 2, "C": 1}',
    ]


def test_what_waits_to_be_retried_is_superseded_by_newer_inputs(open_ledger: OpenLedger) -> None:
    player = Player(open_ledger(DIAMOND))
    player.arrives("A")
    (first,) = player.open
    player.harness.report(first, State.FAILED, error="noise")
    player.open.clear()
    player.arrives("A")
    assert player.harness.state(first) is State.CANCELLED
    assert player.harness.error(first) == "superseded: B is to be made from A v2"
    assert [each.inputs for each in player.open] == ['{"A": 2}']


def test_what_fails_after_newer_inputs_came_is_superseded_by_them(open_ledger: OpenLedger) -> None:
    player = Player(open_ledger(DIAMOND))
    player.arrives("A")
    (first,) = player.open
    player.arrives("A")  # the second waits for the first, which is at its pipeline
    player.harness.report(first, State.FAILED, error="noise")
    player.open.clear()
    (second,) = player.harness.take_due()
    assert second.inputs == '{"A": 2}'
    player.harness.clock.advance(600)
    player.harness.report(second, State.FAILED, error="noise")
    player.harness.clock.advance(600)
    # The older inputs, retried after the newer ones, would be archived last.
    assert [each.inputs for each in player.harness.take_due()] == ['{"A": 2}']
    assert player.harness.state(first) is State.CANCELLED
    assert player.harness.error(first) == "superseded: B is to be made from A v2"


def test_what_waits_for_a_provider_left_alone_is_superseded_by_newer_inputs(
    open_ledger: OpenLedger,
) -> None:
    player = Player(open_ledger(DIAMOND))
    player.arrives("A")
    (first,) = player.open
    player.harness.report(first, State.FAILED, error="noise")
    player.harness.clock.advance(600)
    (again,) = player.harness.take_due()
    full = Busy(processing_id=again.processing_id, asked_attempt=2, error="full", wait_s=5.0)
    player.harness.apply(full)
    player.open.clear()
    player.arrives("A")
    assert player.harness.state(first) is State.CANCELLED
    assert [each.inputs for each in player.open] == ['{"A": 2}']


def test_a_first_request_that_is_refused_after_newer_inputs_came_is_superseded_by_them(
    open_ledger: OpenLedger,
) -> None:
    player = Player(open_ledger(DIAMOND))
    player.arrives("A")
    (first,) = player.open
    player.arrives("A")  # while the first is on its way
    full = Busy(processing_id=first.processing_id, asked_attempt=1, error="full", wait_s=5.0)
    player.harness.apply(full)
    player.harness.clock.advance(600)
    assert [each.inputs for each in player.harness.take_due()] == ['{"A": 2}']
    assert player.harness.state(first) is State.CANCELLED
    assert player.harness.error(first) == "superseded: B is to be made from A v2"


def test_a_retry_is_made_from_what_is_available_then(open_ledger: OpenLedger) -> None:
    player = Player(open_ledger(KEPT))
    player.arrives("A")
    (first,) = player.open
    player.harness.report(first, State.FAILED, error="noise")
    player.open.clear()
    player.arrives("A")
    player.harness.clock.now += 1000
    player.open += player.harness.ledger.take_due(UNLIMITED)
    assert player.makes_all() == ['B: {"A": 2}', 'C: {"B": 1}']
    assert player.stale() == {}


def test_an_optional_input_that_is_made_again_is_waited_for(open_ledger: OpenLedger) -> None:
    player = Player(open_ledger(OPTIONAL))
    player.arrives("A")
    assert player.makes_all() == ['B: {"A": 1}', 'D: {"A": 1, "B": 1}']
    player.arrives("A")
    assert player.makes_all() == ['B: {"A": 2}', 'D: {"A": 2, "B": 2}']
    player.arrives("A")
    player.harness.clock.now += 61
    player.open += player.harness.ledger.take_due(UNLIMITED)
    assert [each.inputs for each in player.open] == ['{"A": 3}', '{"A": 3, "B": 2}']


@pytest.mark.parametrize("graph", [KEPT, DIAMOND])
def test_a_withdrawal_stops_what_is_being_made_and_falls_back_to_what_is_left(
    open_ledger: OpenLedger, graph: object
) -> None:
    player = Player(open_ledger(DIAMOND if graph is DIAMOND else KEPT))
    for _ in range(2):
        player.arrives("A")
    assert [each.inputs for each in player.open] == ['{"A": 1}']
    # The request from version 1 is under way; of version 2, once that has ended.
    player.makes("B")
    stopped = player.withdraws("A", 2, left=1)
    if graph is KEPT:
        assert (stopped, player.stale()) == ([], {})
        return
    assert stopped == ["B"]
    late = player.open.pop(0)
    assert player.open == []
    assert player.harness.state(late) is State.CANCELLED
    assert player.harness.error(late) == (
        "stopped: version 2 of A, which it is made from, was withdrawn: noise"
    )
    assert player.stale() == {}


def test_a_late_answer_of_what_was_stopped_is_refused(open_ledger: OpenLedger) -> None:
    player = Player(open_ledger(KEPT))
    player.arrives("A")
    (late,) = player.open
    player.open.clear()
    assert player.withdraws("A", 1) == ["B"]
    for state in (State.RUNNING, State.SUCCEEDED, State.FAILED):
        player.harness.report(late, state)
        assert player.harness.state(late) is State.CANCELLED
    player.archives(late)
    assert player.harness.state(late) is State.CANCELLED
    assert player.open == []
    (refused,) = player.harness.ledger.take_refused()
    assert (refused.product, refused.version) == ("B", 1)
    assert refused.reason == "made from version 1 of A, which was withdrawn meanwhile"
    assert player.harness.views.observation("o1") is not None
    # Another version is claimed under another id: the late one has taken that of the first.
    player.arrives("A")
    (again,) = player.open
    assert again.processing_id != late.processing_id
    assert player.makes_all() == ['B: {"A": 2}', 'C: {"B": 2}']
    assert player.stale() == {}
    player.harness.ledger.operations.retry(late.processing_id)
    assert [each.inputs for each in player.harness.ledger.take_due(UNLIMITED)] == ['{"A": 2}']


def test_what_was_made_from_a_withdrawn_version_is_stale_and_remade_from_what_is_left(
    open_ledger: OpenLedger,
) -> None:
    player = Player(open_ledger(DIAMOND))
    player.arrives("A")
    player.arrives("X")
    player.makes_all()
    player.arrives("A")
    player.makes_all()
    assert player.withdraws("A", 2, left=1) == []
    assert set(player.stale()) == {"B", "C", "D"}
    assert player.makes_all() == [
        'B: {"A": 1}',
        'C: {"A": 1, "X": 1}',
        'D: {"A": 1, "B": 3, "C": 3}',
    ]
    assert player.stale() == {}
    # Nothing is left: it is stale, and waits for another version.
    player.withdraws("A", 1)
    assert player.stale()["B"] == "made from A v1, which is not available any more"
    assert player.open == []
    player.arrives("A")
    assert len(player.makes_all()) == 3


def test_what_waits_to_be_made_from_a_withdrawn_version_is_made_from_the_older_one(
    open_ledger: OpenLedger,
) -> None:
    player = Player(open_ledger(KEPT))
    player.harness.hold()
    player.arrives("A")
    player.arrives("A")
    player.withdraws("A", 2, left=1)
    player.harness.release()
    player.open += player.harness.ledger.take_due(UNLIMITED)
    assert player.makes_all() == ['B: {"A": 1}', 'C: {"B": 1}']
    assert player.stale() == {}


def test_bytes_that_were_withdrawn_are_not_used_under_another_number(
    open_ledger: OpenLedger,
) -> None:
    player = Player(open_ledger(KEPT))
    player.arrives("A", "same")
    player.makes_all()
    player.arrives("A", "same")
    player.withdraws("A", 1, left=2)
    assert player.stale()["B"] == "made from A v1, and v2 is available"


def test_what_was_made_before_marks_were_kept_is_known_by_its_processing(
    empty_database_url: str, tmp_path: Path
) -> None:
    numbers = ("priority", "attempt", "pipeline_attempt", "max_attempts", "done", "total")
    times = ("timeout_s", "not_before", "ask_at", "created", "ended")
    made = {
        "id": "p1",
        "product": "B",
        "obs_id": "o1",
        "claim": "once",
        "inputs": {"A": 1},
        "provider": "maker",
        "state": State.SUCCEEDED.value,
        **dict.fromkeys(numbers, 1),
        **dict.fromkeys(times, 1e6),
    }
    version = {"obs_id": "o1", "version": 1, "heard": 1e6}
    with (
        first_revision_database(empty_database_url, MIGRATIONS, tmp_path) as engine,
        engine.begin() as connection,
    ):
        connection.execute(sa.insert(processings).values(made))
        for name in ("A", "B"):
            connection.execute(sa.insert(available).values({**version, "product": name}))
    player = Player(Harness(empty_database_url, KEPT))
    player.versions["A"] = 1
    player.arrives("A")
    assert player.stale() == {"B": "made from A v1, and v2 is available"}
    player.harness.close()
