"""Circuits of providers that several conductors of one database change at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from batuta.conductor.decisions.circuits import Answered, CircuitState, Unanswered
from batuta.conductor.decisions.events import PipelineUnreachable, StatusUpdate
from batuta.messaging import ProcessingState as State
from tests.conductor.graphs import URL, graph_of
from tests.conductor.harness import NOTHING, OpenLedger

TIMES = 25


def test_two_conductors_that_hear_of_one_failure_do_not_wait_for_each_other(
    open_ledger: OpenLedger,
) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1000}})
    unreachable, failing = open_ledger(graph), open_ledger(graph)
    requests = unreachable.on_data(*(("A", f"o{number}", 1) for number in range(TIMES)))
    together = Barrier(2)

    def tell_unreachable() -> None:
        for request in requests:
            together.wait(10)
            signal = Unanswered(
                provider="maker",
                instance=URL,
                processing_id=request.processing_id,
                reason="refused",
            )
            event = PipelineUnreachable(
                processing_id=request.processing_id, asked_attempt=1, error="refused"
            )
            unreachable.ledger.advance([event], NOTHING, NOTHING, [signal])

    def tell_failed() -> None:
        for request in requests:
            together.wait(10)
            event = StatusUpdate(
                processing_id=request.processing_id, state=State.FAILED, attempt=1, error="no luck"
            )
            failing.ledger.advance([event], NOTHING, NOTHING)

    both: list[Callable[[], None]] = [tell_unreachable, tell_failed]
    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(each) for each in both]:
            each.result()
    # Waiting: requests that were never answered, and are repeated once the circuit is closed.
    assert {failing.state(each) for each in requests} <= {State.RETRYING, State.WAITING}


def test_an_address_that_the_other_conductor_has_found_to_answer_is_not_tried(
    open_ledger: OpenLedger,
) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1000}})
    stale, other = open_ledger(graph), open_ledger(graph)
    (request,) = stale.on_data(("A", "o1", 1))
    whose = {"provider": "maker", "instance": URL, "processing_id": request.processing_id}
    lost = Unanswered(**whose, reason="refused")
    stale.ledger.advance([], NOTHING, NOTHING, [lost] * 5)
    stale.on_data(("A", "o2", 1))
    for each in (stale, other):
        each.clock.advance(2)  # its trial is due
    stale.ledger.take_due(NOTHING)  # it reads the circuits, and does not again for a moment
    assert [each.state for each in stale.ledger.circuits.known] == [CircuitState.OPEN]
    other.ledger.advance([], NOTHING, NOTHING, [Answered(**whose)])
    assert stale.due() == ["B"]
    assert not [each for each in stale.ledger.circuits.known if each.open]
