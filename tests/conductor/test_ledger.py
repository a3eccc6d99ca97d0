"""The conductor's database, on every kind of database, with a clock of the test's own."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from batuta.conductor.ledger import Ledger, LedgerConfig, News, Request
from batuta.conductor.rules import Arrival
from batuta.conductor.schema import MIGRATIONS
from batuta.conductor.views import Views
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.service.database import open_database
from tests.conductor.graphs import diamond, graph_of

ROOM = 1000


class Clock:
    """A clock that goes only when told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def go(self, seconds: float) -> None:
        self.now += seconds


class Desk:
    """A ledger with its clock and its views."""

    def __init__(self, url: str, graph: Graph) -> None:
        self.clock = Clock()
        self.graph = graph
        self._opened = open_database(url, MIGRATIONS)
        engine = self._opened.__enter__()
        self.ledger = Ledger(engine, graph, LedgerConfig(), self.clock)
        self.views = Views(engine, graph, "http://{}/pipeline".format)

    def close(self) -> None:
        self._opened.__exit__(None, None, None)

    def hear(self, *arrivals: tuple[str, str, int]) -> list[Request]:
        return self.ledger.hear([Arrival(*arrival) for arrival in arrivals], ROOM)

    def due(self) -> list[str]:
        return [request.product for request in self.ledger.take_due(ROOM)]

    def told(self, request: Request, state: State, **news: object) -> None:
        values = {"attempt": request.attempt, **news}
        self.ledger.settle([News(processing_id=request.processing_id, state=state, **values)])  # type: ignore[arg-type]  # values of several types

    def state(self, request: Request) -> State:
        found = self.views.processing(request.processing_id)
        assert found is not None
        return found.state

    def error(self, request: Request) -> str | None:
        found = self.views.processing(request.processing_id)
        assert found is not None
        return found.error


OpenDesk = Callable[[Graph], Desk]


@pytest.fixture
def open_desk(database_url: str) -> Iterator[OpenDesk]:
    """Opens ledgers on one database."""
    opened: list[Desk] = []

    def open_it(graph: Graph) -> Desk:
        opened.append(Desk(database_url, graph))
        return opened[-1]

    yield open_it
    for desk in opened:
        desk.close()


def names(requests: list[Request]) -> list[str]:
    return sorted(request.product for request in requests)


def test_a_notification_gives_the_requests_of_what_it_feeds(open_desk: OpenDesk) -> None:
    desk = open_desk(diamond())
    assert names(desk.hear(("A", "o1", 1))) == ["B", "C"]
    assert desk.hear(("B", "o1", 1)) == []
    assert names(desk.hear(("C", "o1", 1))) == ["D"]


def test_a_notification_heard_twice_makes_nothing_twice(open_desk: OpenDesk) -> None:
    desk = open_desk(diamond())
    desk.hear(("A", "o1", 1), ("A", "o1", 1))
    assert desk.hear(("A", "o1", 1)) == []
    assert len(desk.views.processings({}, 100, None).items) == 2


def test_observations_do_not_mix(open_desk: OpenDesk) -> None:
    desk = open_desk(diamond())
    desk.hear(("B", "o1", 1))
    assert desk.hear(("C", "o2", 1)) == []


def test_a_newer_version_makes_a_product_anew_where_the_graph_says_so(
    open_desk: OpenDesk,
) -> None:
    desk = open_desk(diamond(on_update="reprocess"))
    (first,) = desk.hear(("B", "o1", 1), ("C", "o1", 1))
    # Not at once with the first: the one made from older inputs might be archived last.
    assert desk.hear(("B", "o1", 2)) == []
    desk.told(first, State.SUCCEEDED)
    assert desk.due() == ["D"]
    assert desk.hear(("B", "o1", 2)) == []
    assert desk.hear(("B", "o1", 1)) == []


def test_two_conductors_that_hear_of_one_input_each_claim_once(open_desk: OpenDesk) -> None:
    desks = [open_desk(diamond()), open_desk(diamond())]
    observations = [f"o{number}" for number in range(30)]

    def hear(desk: Desk, product: str) -> list[Request]:
        return [request for obs_id in observations for request in desk.hear((product, obs_id, 1))]

    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(hear, desks, ["B", "C"]))
    asked = [request.obs_id for half in halves for request in half if request.product == "D"]
    assert sorted(asked) == sorted(observations)


def test_a_failure_is_retried_after_growing_waits_then_shown(open_desk: OpenDesk) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 3}}))
    (request,) = desk.hear(("A", "o1", 1))
    for attempt, wait in ((1, 1.0), (2, 2.0)):
        desk.told(request, State.FAILED, attempt=attempt, error="no luck")
        assert desk.state(request) is State.RETRYING
        desk.clock.go(wait - 0.01)
        assert desk.due() == []
        desk.clock.go(0.02)
        assert desk.due() == ["B"]
    desk.told(request, State.FAILED, attempt=3, error="no luck at all")
    assert desk.state(request) is State.FAILED
    assert desk.error(request) == "no luck at all"
    desk.clock.go(1e6)
    assert desk.due() == []


def test_a_refusal_is_final_at_once(open_desk: OpenDesk) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    (request,) = desk.hear(("A", "o1", 1))
    desk.told(request, State.FAILED, error="unknown product", final=True)
    assert desk.state(request) is State.FAILED


def test_old_news_of_an_earlier_attempt_changes_nothing(open_desk: OpenDesk) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    (request,) = desk.hear(("A", "o1", 1))
    desk.told(request, State.FAILED, error="first")
    desk.clock.go(2)
    (again,) = desk.ledger.take_due(ROOM)
    desk.told(request, State.FAILED, error="first, told again")
    assert desk.state(request) is State.REQUESTED
    desk.told(again, State.SUCCEEDED)
    assert desk.state(request) is State.SUCCEEDED
    desk.told(again, State.FAILED, error="too late")
    assert desk.state(request) is State.SUCCEEDED


def test_a_pipeline_that_goes_on_with_an_earlier_attempt_is_followed(
    open_desk: OpenDesk,
) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    (request,) = desk.hear(("A", "o1", 1))
    desk.told(request, State.FAILED, error="cannot be reached")
    desk.clock.go(2)
    (again,) = desk.ledger.take_due(ROOM)
    # The first request had arrived after all: the answer to the second says attempt 1 runs.
    desk.told(again, State.RUNNING, attempt=None, answered_attempt=1)
    desk.told(request, State.SUCCEEDED, attempt=1)
    assert desk.state(request) is State.SUCCEEDED


def test_a_full_pipeline_costs_no_attempt(open_desk: OpenDesk) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}}))
    (request,) = desk.hear(("A", "o1", 1))
    desk.told(request, State.WAITING, attempt=None, wait_s=5.0)
    assert desk.due() == []
    desk.clock.go(5)
    (again,) = desk.ledger.take_due(ROOM)
    assert again.attempt == 1


def test_the_highest_priority_goes_first_and_full_providers_are_passed_over(
    open_desk: OpenDesk,
) -> None:
    desk = open_desk(
        graph_of(
            ["A"],
            {
                "LOW": {"m_input": ["A"]},
                "HIGH": {"m_input": ["A"], "priority": 9},
                "OTHER": {"m_input": ["A"], "provider": "other", "priority": 99},
            },
        )
    )
    taken = desk.ledger.hear([Arrival("A", "o1", 1)], room=1, full=["other"])
    assert names(taken) == ["HIGH"]
    assert desk.due() == ["OTHER", "LOW"]


def test_a_provider_gets_no_more_at_once_than_it_may(open_desk: OpenDesk) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"]}}, {"maker": {"max_concurrent": 2}}))
    first = desk.hear(*[("A", f"o{number}", 1) for number in range(5)])
    assert len(first) == 2
    assert desk.due() == []
    desk.told(first[0], State.SUCCEEDED)
    assert len(desk.due()) == 1


def test_optional_inputs_on_their_way_are_waited_for_but_no_longer_than_said(
    open_desk: OpenDesk,
) -> None:
    graph = graph_of(
        ["A"],
        {"B": {"m_input": ["A"]}, "R": {"m_input": ["A"], "o_input": ["B"], "o_wait": 60}},
    )
    desk = open_desk(graph)
    assert names(desk.hear(("A", "o1", 1), ("A", "o2", 1))) == ["B", "B"]
    assert names(desk.hear(("B", "o1", 1))) == ["R"]
    desk.clock.go(61)
    assert desk.due() == ["R"]


def test_optional_inputs_that_failed_are_not_waited_for(open_desk: OpenDesk) -> None:
    graph = graph_of(
        ["A"],
        {
            "B": {"m_input": ["A"], "max_attempts": 1},
            "R": {"m_input": ["A"], "o_input": ["B"], "o_wait": 60},
        },
    )
    desk = open_desk(graph)
    (request,) = desk.hear(("A", "o1", 1))
    desk.told(request, State.FAILED, error="broken")
    assert desk.due() == ["R"]


def test_what_waits_is_claimed_from_the_inputs_there_when_it_leaves(open_desk: OpenDesk) -> None:
    graph = graph_of(
        ["A"],
        {
            "B": {"m_input": ["A"]},
            "R": {
                "m_input": ["A"],
                "o_input": ["B"],
                "o_wait": 60,
                "on_update": "reprocess",
            },
        },
    )
    desk = open_desk(graph)
    desk.hear(("A", "o1", 1))
    (report,) = desk.hear(("B", "o1", 1))
    found = desk.views.processing(report.processing_id)
    assert found is not None
    assert found.inputs == {"A": 1, "B": 1}
    assert len(desk.views.processings({"product": "R"}, 10, None).items) == 1


def test_silent_processings_are_asked_after_ever_less_often(open_desk: OpenDesk) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    desk.hear(("A", "o1", 1))
    assert desk.ledger.silent() == []
    asked_at = []
    start = desk.clock.now
    while desk.clock.now - start < 300:
        desk.clock.go(0.5)
        if desk.ledger.silent():
            asked_at.append(desk.clock.now - start)
    gaps = [later - earlier for earlier, later in pairwise(asked_at)]
    assert asked_at[0] == pytest.approx(2.0, abs=0.6)
    assert gaps == sorted(gaps)
    assert max(gaps) == pytest.approx(60.0, abs=1)


def test_a_running_processing_is_looked_at_by_its_deadline(open_desk: OpenDesk) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"], "timeout": 5}}))
    (request,) = desk.hear(("A", "o1", 1))
    desk.clock.go(1)
    desk.told(request, State.RUNNING)
    desk.ledger.silent()
    desk.clock.go(5.1)
    assert [row.product for row in desk.ledger.silent()] == ["B"]


def test_what_is_held_is_not_requested_until_released(open_desk: OpenDesk) -> None:
    desk = open_desk(diamond())
    desk.ledger.hold(None)
    assert desk.hear(("A", "o1", 1)) == []
    states = {item.state for item in desk.views.processings({}, 10, None).items}
    assert states == {State.HELD}
    desk.ledger.release(None)
    assert sorted(desk.due()) == ["B", "C"]


def test_releasing_one_provider_leaves_the_hold_of_all(open_desk: OpenDesk) -> None:
    desk = open_desk(diamond())
    desk.ledger.hold(None)
    desk.ledger.hold("maker")
    desk.hear(("A", "o1", 1))
    desk.ledger.release("maker")
    assert desk.due() == []
    assert desk.ledger.held() == ["*"]


def test_a_failed_processing_asked_for_again_has_all_its_attempts(open_desk: OpenDesk) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}}))
    (request,) = desk.hear(("A", "o1", 1))
    assert desk.ledger.retry(request.processing_id) is None
    desk.told(request, State.FAILED, error="broken")
    assert desk.ledger.retry(request.processing_id) is not None
    (again,) = desk.ledger.take_due(ROOM)
    assert (again.processing_id, again.attempt) == (request.processing_id, 2)


def test_a_cancelled_processing_stays_cancelled(open_desk: OpenDesk) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    (request,) = desk.hear(("A", "o1", 1))
    assert desk.ledger.cancel(request.processing_id, "by a person") is not None
    desk.told(request, State.RUNNING)
    assert desk.state(request) is State.CANCELLED
    assert desk.ledger.cancel(request.processing_id, "again") is None


def test_a_person_may_have_a_product_made_again(open_desk: OpenDesk) -> None:
    desk = open_desk(diamond())
    for request in desk.hear(("A", "o1", 1)):
        desk.told(request, State.SUCCEEDED)
    desk.ledger.ask_for("B", "o1")
    (again,) = desk.ledger.take_due(ROOM)
    assert (again.product, desk.state(again)) == ("B", State.REQUESTED)


def test_a_rebuilt_ledger_does_not_make_again_what_the_sdb_holds(open_desk: OpenDesk) -> None:
    desk = open_desk(diamond())
    before = desk.ledger.rebuilt
    desk.ledger.rebuild([Arrival("A", "o1", 1), Arrival("B", "o1", 3)])
    assert (before, desk.ledger.rebuilt) == (False, True)
    assert names(desk.hear(("A", "o1", 1))) == ["C"]


def test_a_database_keeps_its_identity(open_desk: OpenDesk) -> None:
    first, second = open_desk(diamond()).ledger, open_desk(diamond()).ledger
    assert first.identity() == second.identity() != ""


def test_long_lists_come_in_pages_without_gaps(open_desk: OpenDesk) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    desk.hear(*[("A", f"o{number:03}", 1) for number in range(25)])
    page = desk.views.processings({}, 10, None)
    seen = [item.obs_id for item in page.items]
    while page.next is not None:
        page = desk.views.processings({}, 10, page.next)
        seen += [item.obs_id for item in page.items]
    assert sorted(seen) == [f"o{number:03}" for number in range(25)]
    observations = desk.views.observations(20, None)
    assert len(observations.items) == 20
    assert len(desk.views.observations(20, observations.next).items) == 5


def test_why_names_what_is_lacking(open_desk: OpenDesk) -> None:
    desk = open_desk(diamond())
    desk.hear(("B", "o1", 1))
    why = desk.views.why("D", "o1")
    assert why.answer == "D was not made: it lacks C, which lacks A"
    (request,) = desk.hear(("C", "o1", 1))
    desk.told(request, State.FAILED, error="disk full")
    assert "disk full" in desk.views.why("D", "o1").answer


def test_why_names_the_input_that_failed_and_its_reason(open_desk: OpenDesk) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}, "C": {"m_input": ["B"]}})
    desk = open_desk(graph)
    (request,) = desk.hear(("A", "o1", 1))
    desk.told(request, State.FAILED, error="disk full")
    expected = "C was not made: it lacks B, which is failed (disk full)"
    assert desk.views.why("C", "o1").answer == expected


def test_stopped_at_its_deadline_it_is_tried_again_whoever_tells_it_first(
    open_desk: OpenDesk,
) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"], "timeout": 5}}))
    (request,) = desk.hear(("A", "o1", 1))
    desk.told(request, State.RUNNING)
    desk.clock.go(6)
    desk.told(request, State.CANCELLED)
    assert desk.state(request) is State.RETRYING
    assert "no end after 5 s (timeout)" in (desk.error(request) or "")


def test_cancelled_before_its_deadline_it_stays_cancelled(open_desk: OpenDesk) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"], "timeout": 5}}))
    (request,) = desk.hear(("A", "o1", 1))
    desk.told(request, State.RUNNING)
    desk.told(request, State.CANCELLED)
    assert desk.state(request) is State.CANCELLED


def test_what_is_made_is_made_even_if_it_was_believed_failed(open_desk: OpenDesk) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}}))
    (request,) = desk.hear(("A", "o1", 1))
    desk.told(request, State.FAILED, attempt=None, error="no answer in 15 s")
    assert desk.state(request) is State.FAILED
    desk.told(request, State.SUCCEEDED)
    assert desk.state(request) is State.SUCCEEDED


def test_a_late_answer_about_an_attempt_that_is_over_says_nothing(open_desk: OpenDesk) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    (request,) = desk.hear(("A", "o1", 1))
    desk.told(request, State.FAILED, error="killed")
    desk.clock.go(2)
    (again,) = desk.ledger.take_due(ROOM)
    desk.told(request, State.FAILED, attempt=None, asked_attempt=1, error="no answer in 15 s")
    assert desk.state(again) is State.REQUESTED


def test_a_provider_with_no_place_left_does_not_hide_what_others_can_take(
    open_desk: OpenDesk,
) -> None:
    graph = graph_of(
        ["A", "X"],
        {
            "B": {"m_input": ["A"], "priority": 9},
            "Y": {"m_input": ["X"], "provider": "other"},
        },
    )
    desk = open_desk(graph)
    arrivals = [Arrival("A", f"o{number:02}", 1) for number in range(20)]
    spare = {"maker": 3, "other": 3}.__getitem__
    taken = desk.ledger.hear([*arrivals, Arrival("X", "o1", 1)], room=10, spare=spare)
    assert names(taken) == ["B", "B", "B", "Y"]


def test_two_conductors_together_keep_to_a_provider_s_places(open_desk: OpenDesk) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"]}}, {"maker": {"max_concurrent": 1}})
    desks = [open_desk(graph), open_desk(graph)]
    desks[0].ledger.hold(None)
    desks[0].hear(*[("A", f"o{number}", 1) for number in range(10)])
    desks[0].ledger.release(None)
    with ThreadPoolExecutor(2) as pool:
        taken = [request for found in pool.map(Desk.due, desks) for request in found]
    assert len(taken) == 1


def test_a_hold_and_its_release_keep_the_waits(open_desk: OpenDesk) -> None:
    desk = open_desk(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    (request,) = desk.hear(("A", "o1", 1))
    desk.told(request, State.FAILED, error="no luck")
    desk.ledger.hold(None)
    desk.ledger.release(None)
    assert desk.due() == []
    desk.clock.go(1.1)
    assert desk.due() == ["B"]
