"""Orders for whole sets of processings: previewed, recorded, carried out, killed half-way."""

from dataclasses import replace

import pytest

from batuta.conductor.database.operations import order_sets
from batuta.conductor.database.operations.order_sets import OrderSets, SetFilters, states_of
from batuta.conductor.database.orders import OrderView, OrderViews
from batuta.conductor.database.requests.slots import Capacity
from batuta.conductor.decisions.order_sets import (
    STATES,
    Ordered,
    SetCommand,
    carry_out,
    looks_again,
)
from batuta.conductor.decisions.rules import Arrival
from batuta.messaging import ProcessingState as State
from batuta.service.operators import Operator
from tests.conductor.graphs import graph_of
from tests.conductor.harness import NOTHING, Harness, OpenLedger
from tests.conductor.processing_records import NOW, RUNNING

GRAPH = graph_of(
    ["A"],
    {"B": {"m_input": ["A"]}, "C": {"m_input": ["A"], "class": "backfill"}},
)
ALICE = Operator("alice", proved=True)
CANCEL, RETRY = SetCommand.CANCEL, SetCommand.RETRY


def filters(command: SetCommand, *states: State, **columns: str) -> SetFilters:
    return SetFilters(columns=columns, states=states_of(command, states))


def give(harness: Harness, command: SetCommand, wanted: SetFilters) -> int:
    sets = harness.ledger.order_sets
    return sets.begin(command, wanted, sets.select(wanted).total, "bad night", ALICE)


def batch(sets: OrderSets) -> list[str] | None:
    """Carry out a batch; return the products that were at their providers, None at the end."""
    order = sets.under_way()
    if order is None:
        return None
    ids, position = sets.next_batch(order)
    return [each.obs_id for each in sets.carry_out(order.number, ids, position)]


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
    assert sets.carry_out(number, ids, position) == []
    assert states(harness, "C") == {"o1": "waiting"}
    harness.clock.advance(1)
    harness.ledger.operations.cancel(ids[0], None, ALICE)
    # As if it had been killed before it could tell how far it had come.
    sets.carry_out(number, ids, position)
    assert states(harness, "C") == {"o1": "cancelled"}
    assert order(harness, number).changed == 1


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("command", list(SetCommand))
def test_an_order_changes_what_is_in_a_state_that_it_is_for(
    command: SetCommand, state: State
) -> None:
    ended = NOW - 5 if state.ended else None
    record = replace(RUNNING, state=state, ended=ended)
    ordered = Ordered(command=command, at=NOW - 1, by="operator alice", reason=None)
    after = carry_out(ordered, record, None, NOW)
    assert (after is not None) == (state in STATES[command])
    if after is not None and command is CANCEL:
        assert after.error == "cancelled by operator alice"


def test_states_are_looked_through_again_only_where_that_ends() -> None:
    assert looks_again(CANCEL, 3)
    assert not looks_again(CANCEL, 0)
    assert not looks_again(RETRY, 3)
