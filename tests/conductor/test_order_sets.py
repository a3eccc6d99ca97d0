"""Orders for whole sets of processings: previewed, recorded, carried out, killed half-way."""

from dataclasses import replace

import pytest

from batuta.conductor.database.history import read_history
from batuta.conductor.database.operations import order_sets
from batuta.conductor.database.operations.order_sets import (
    OrderSets,
    SetFilters,
    SetOrder,
    states_of,
)
from batuta.conductor.database.orders import OrderView, OrderViews
from batuta.conductor.database.requests.slots import Capacity
from batuta.conductor.decisions.commands import NO_OTHER_URGENCY, Urgency
from batuta.conductor.decisions.order_sets import (
    STATES,
    Ordered,
    SetCommand,
    carry_out,
    looks_again,
)
from batuta.conductor.decisions.rules import Arrival
from batuta.messaging import ProcessingState as State
from batuta.service.database import reading
from batuta.service.operators import Operator
from batuta.work_classes import WorkClass
from tests.conductor.graphs import graph_of
from tests.conductor.harness import NOTHING, UNLIMITED, Harness, OpenLedger
from tests.conductor.processing_records import NOW, RUNNING

GRAPH = graph_of(
    ["A"],
    {"B": {"m_input": ["A"]}, "C": {"m_input": ["A"], "class": "backfill"}},
)
ALICE = Operator("alice", proved=True)
CANCEL, RETRY = SetCommand.CANCEL, SetCommand.RETRY
AS_ALERT = Urgency(work_class=WorkClass.ALERT, priority=5)


def filters(command: SetCommand, *states: State, **columns: str) -> SetFilters:
    return SetFilters(columns=columns, states=states_of(command, states))


def give(
    harness: Harness, command: SetCommand, wanted: SetFilters, urgency: Urgency = NO_OTHER_URGENCY
) -> int:
    sets = harness.ledger.order_sets
    order = SetOrder(command=command, filters=wanted, by=ALICE, reason="bad night", urgency=urgency)
    return sets.begin(order, sets.select(wanted).total)


def batch(sets: OrderSets) -> list[str] | None:
    """Carry out a batch; return the products that were at their providers, None at the end."""
    order = sets.under_way()
    if order is None:
        return None
    ids, position = sets.next_batch(order)
    return [each.obs_id for each in sets.carry_out(order, ids, position)]


def carry_all_out(sets: OrderSets) -> list[str]:
    told: list[str] = []
    while (some := batch(sets)) is not None:
        told += some
    return told


def order(harness: Harness, number: int) -> OrderView:
    found = OrderViews(harness.engine).find(number)
    assert found is not None
    return found


def states(harness: Harness, product: str) -> dict[str, str]:
    items = harness.views.processings({"product": product}, 100, None).items
    return {each.obs_id: each.state.value for each in items}


def test_a_set_is_cancelled_a_batch_at_a_time_and_continues_after_a_kill(
    open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_sets, "BATCH", 2)
    harness = open_ledger(GRAPH)
    harness.take([Arrival("A", "n0", 1)], Capacity(total=2))
    arrivals = [Arrival("A", f"o{number}", 1) for number in range(5)]
    harness.take([*arrivals, Arrival("A", "x1", 1)], NOTHING)
    wanted = filters(CANCEL, product="B", obs_id="??")
    preview = harness.ledger.order_sets.select(wanted)
    assert (preview.total, preview.by_product) == (7, {"B": 7})
    assert preview.by_state == {"waiting": 6, "requested": 1}
    assert len(preview.first) == 7
    number = give(harness, CANCEL, replace(wanted, columns={"product": "B"}))
    batch(harness.ledger.order_sets)
    assert (order(harness, number).changed, order(harness, number).ended) == (2, None)
    harness.close()
    harness = open_ledger(GRAPH)
    harness.clock.advance(1)
    harness.take([Arrival("A", "late", 1)], NOTHING)
    assert carry_all_out(harness.ledger.order_sets) == ["n0"]
    done = order(harness, number)
    assert (done.selected, done.changed, done.operator) == (7, 7, "alice")
    assert done.ended is not None
    of_b = states(harness, "B")
    # What was claimed after the order was not meant.
    assert of_b.pop("late") == "waiting"
    assert set(of_b.values()) == {"cancelled"}
    assert "cancelled" not in states(harness, "C").values()


def test_what_is_retried_by_an_order_and_fails_again_is_not_retried_twice(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    harness.take([Arrival("A", "o1", 1)], NOTHING)
    give(harness, CANCEL, filters(CANCEL, work_class="backfill"))
    carry_all_out(harness.ledger.order_sets)
    assert (states(harness, "C"), states(harness, "B")) == ({"o1": "cancelled"}, {"o1": "waiting"})
    harness.clock.advance(1)
    number = give(harness, RETRY, filters(RETRY, State.CANCELLED))
    sets = harness.ledger.order_sets
    recorded = sets.under_way()
    assert recorded is not None
    ids, position = sets.next_batch(recorded)
    assert sets.carry_out(recorded, ids, position) == []
    assert states(harness, "C") == {"o1": "waiting"}
    harness.clock.advance(1)
    harness.ledger.operations.cancel(ids[0], None, ALICE)
    # As if it had been killed before it could tell how far it had come.
    recorded = sets.under_way()
    assert recorded is not None
    sets.carry_out(recorded, ids, position)
    assert states(harness, "C") == {"o1": "cancelled"}
    assert order(harness, number).changed == 1


def test_a_conductor_that_carries_out_a_batch_late_does_not_take_an_order_back(
    open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_sets, "BATCH", 2)
    harness = open_ledger(GRAPH)
    harness.take([Arrival("A", f"o{n}", 1) for n in range(8)], NOTHING)
    number = give(harness, CANCEL, filters(CANCEL, work_class="backfill"))
    sets = harness.ledger.order_sets
    as_read = sets.under_way()
    assert as_read is not None
    late_batch = sets.next_batch(as_read)
    assert batch(sets) is not None
    assert batch(sets) is not None
    before = order(harness, number)
    assert sets.carry_out(as_read, *late_batch) == []
    assert order(harness, number) == before
    carry_all_out(sets)
    assert order(harness, number).ended is not None


def test_what_the_graph_in_force_does_not_make_is_counted_as_refused(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    harness.take([Arrival("A", "o1", 1), Arrival("A", "o2", 1)], NOTHING)
    give(harness, CANCEL, filters(CANCEL))
    carry_all_out(harness.ledger.order_sets)
    without_c = graph_of(["A"], {"B": {"m_input": ["A"]}})
    harness.versions.apply(without_c, ALICE)
    harness.versions.apply(graph_of(["A"], {"B": {"m_input": ["A"], "due": 60}}), ALICE)
    harness.clock.advance(1)
    wanted = filters(RETRY)
    sets = harness.ledger.order_sets
    found = sets.select(wanted)
    assert (found.total, sets.refused(RETRY, found), sets.refused(CANCEL, found)) == (4, 2, 0)
    retry = SetOrder(command=RETRY, filters=wanted, by=ALICE)
    number = sets.begin(retry, found.total, found.by_product)
    carry_all_out(sets)
    done = order(harness, number)
    assert (done.selected, done.changed) == (4, 2)
    assert done.problem == (
        "2 refused: C is not made by version 3 of the graph, now in force (version 2 dropped it; "
        "batuta graph apply --version 1 goes back, or apply a graph that makes it)"
    )
    assert set(states(harness, "B").values()) == {"waiting"}
    assert set(states(harness, "C").values()) == {"cancelled"}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("command", list(SetCommand))
def test_an_order_changes_what_is_in_a_state_that_it_is_for(
    command: SetCommand, state: State
) -> None:
    ended = NOW - 5 if state.ended else None
    record = replace(RUNNING, state=state, ended=ended)
    ordered = Ordered(command=command, at=NOW - 1, by="operator alice", urgency=AS_ALERT)
    after = carry_out(ordered, record, GRAPH.products["B"], NOW)
    assert (after is not None) == (state in STATES[command])
    if after is not None and command is CANCEL:
        assert after.error == "cancelled by operator alice"


def test_states_are_looked_through_again_only_where_that_ends() -> None:
    assert looks_again(CANCEL, 3)
    assert looks_again(SetCommand.REPRIORITIZE, 3)
    assert not looks_again(CANCEL, 0)
    assert not looks_again(RETRY, 3)


REPRIORITIZE = SetCommand.REPRIORITIZE


def test_a_set_is_given_another_urgency_and_goes_first(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    harness.take([Arrival("A", each, 1) for each in ("o1", "o2", "x1")], NOTHING)
    number = give(harness, REPRIORITIZE, filters(REPRIORITIZE, product="C", obs_id="o*"), AS_ALERT)
    assert carry_all_out(harness.ledger.order_sets) == []
    done = order(harness, number)
    assert (done.changed, done.about["to"]) == (2, {"class": "alert", "priority": 5})
    requests = harness.ledger.take_due(Capacity(total=2))
    assert [(each.product, each.obs_id) for each in requests] == [("C", "o1"), ("C", "o2")]
    told = harness.views.processings({"product": "C"}, 10, None).items
    urgency = {each.obs_id: (each.work_class.value, each.priority) for each in told}
    assert urgency == {"o1": ("alert", 5), "o2": ("alert", 5), "x1": ("backfill", 0)}
    # What is at its provider by now stays as it is.
    again = give(harness, REPRIORITIZE, filters(REPRIORITIZE, product="C"), Urgency(priority=1))
    carry_all_out(harness.ledger.order_sets)
    assert (order(harness, again).selected, order(harness, again).changed) == (1, 1)


def test_an_order_of_urgency_that_is_interrupted_goes_on_with_what_it_gives(
    open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_sets, "BATCH", 2)
    harness = open_ledger(GRAPH)
    harness.take([Arrival("A", f"o{number}", 1) for number in range(3)], NOTHING)
    number = give(harness, REPRIORITIZE, filters(REPRIORITIZE, product="B"), AS_ALERT)
    batch(harness.ledger.order_sets)
    harness.close()
    harness = open_ledger(GRAPH)
    carry_all_out(harness.ledger.order_sets)
    assert order(harness, number).changed == 3
    listed = harness.views.processings({"work_class": "alert"}, 10, None).items
    assert [each.priority for each in listed] == [5, 5, 5]


def test_what_follows_inherits_the_class_that_was_given(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["B"]}}))
    harness.take([Arrival("A", "o1", 1)], NOTHING)
    (waiting,) = harness.views.processings({}, 10, None).items
    operations = harness.ledger.operations
    assert operations.reprioritize(waiting.id, AS_ALERT, "a transient", ALICE).changed
    assert not operations.reprioritize(waiting.id, AS_ALERT, None, ALICE).changed
    (request,) = harness.ledger.take_due(UNLIMITED)
    harness.make(request, "B", 1)
    (following,) = harness.views.processings({"product": "C"}, 10, None).items
    assert (following.work_class, following.priority) == (WorkClass.ALERT, 0)
    (recorded,) = OrderViews(harness.engine).page({}, None, None, 10, None).items
    assert (recorded.command, recorded.by, recorded.reason) == (
        "reprioritize",
        "operator alice",
        "a transient",
    )
    assert recorded.about == {
        "product": "B",
        "obs_id": "o1",
        "processing": waiting.id,
        "to": {"class": "alert", "priority": 5},
    }
    with reading(harness.engine) as connection:
        history = read_history(connection, "o1")
    assert [each.what for each in history] == ["given class alert and priority 5"]


def test_a_hold_of_a_class_follows_what_is_given_that_class(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    held = harness.hold(work_class=WorkClass.ALERT)
    harness.hold(product="C")
    harness.take([Arrival("A", "o1", 1)], NOTHING)
    give(harness, REPRIORITIZE, filters(REPRIORITIZE, obs_id="o1"), AS_ALERT)
    carry_all_out(harness.ledger.order_sets)
    assert harness.due() == []
    listed = harness.views.processings({"state": "held"}, 10, None).items
    # C stays with the hold that kept it back before.
    assert {each.product: each.held_by for each in listed} == {"B": held.number, "C": 2}
    give(
        harness,
        REPRIORITIZE,
        filters(REPRIORITIZE, obs_id="o1"),
        Urgency(work_class=WorkClass.LIVE),
    )
    carry_all_out(harness.ledger.order_sets)
    assert harness.due() == ["B"]


def test_what_waits_for_a_person_waits_on_in_its_new_class(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "approval": "before"}}))
    harness.take([Arrival("A", "o1", 1)], NOTHING)
    give(harness, REPRIORITIZE, filters(REPRIORITIZE, product="B"), AS_ALERT)
    carry_all_out(harness.ledger.order_sets)
    (found,) = harness.views.processings({}, 10, None).items
    assert (found.state, found.work_class) == (State.UNAPPROVED, WorkClass.ALERT)
    assert harness.due() == []
