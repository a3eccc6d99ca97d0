"""What operators have ordered: who, when, what and why."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Depends

from batuta.conductor.database.operations.operator_actions import (
    Answered,
    LacksInputsError,
    NotInGraphError,
)
from batuta.conductor.database.orders import OrderView, OrderViews
from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.why_views import WhyViews
from batuta.conductor.decisions.commands import Urgency
from batuta.conductor.decisions.differences import Difference, DifferenceKind
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import instant_of
from batuta.service.access_tokens import AccessTokens
from batuta.service.app import AppConfig, create_app
from batuta.service.operator_requests import operator_of
from batuta.service.operators import OPERATOR_HEADER, UNNAMED, Operator
from batuta.service.scopes import Scope
from batuta.service.token_file import add_token
from tests.conductor.graphs import graph_of
from tests.conductor.harness import Harness, OpenLedger

GRAPH = graph_of(["A"], {"B": {"m_input": ["A"]}})
ALICE, BOB = Operator("alice", proved=True), Operator("bob@lab")
TOKEN, ALICES = "a-token-of-a-test", "alice-has-this-token"


def orders(harness: Harness, **filters: str) -> list[OrderView]:
    return OrderViews(harness.engine).page(filters, None, None, 10, None).items


def test_each_command_names_who_gave_it_in_the_list_and_in_why(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    operations = harness.ledger.operations
    (request,) = harness.on_data(("A", "o1", 1))
    operations.cancel(request.processing_id, "bad seeing", BOB)
    harness.clock.advance(1)
    operations.retry(request.processing_id, None, ALICE)
    harness.clock.advance(1)
    operations.make("B", "o1", None, UNNAMED)
    about = {"product": "B", "obs_id": "o1"}
    processing = {**about, "processing": request.processing_id}
    found = [(each.command, each.about, each.by, each.reason) for each in orders(harness)]
    assert found == [
        ("make", about, "operator", None),
        ("retry", processing, "operator alice", None),
        ("cancel", processing, "operator bob@lab (claimed)", "bad seeing"),
    ]
    assert [each.command for each in orders(harness, operator="alice")] == ["retry"]
    assert [each.operator for each in orders(harness, command="cancel")] == ["bob@lab"]
    why = WhyViews(EventViews(harness.engine, GRAPH, harness.views), LateViews(harness.engine)).why(
        "B", "o1"
    )
    told = [
        (each.by, each.what.partition(", ")[0])
        for each in why.history
        if each.by.startswith("operator")
    ]
    assert told == [
        ("operator bob@lab (claimed)", "cancelled: bad seeing"),
        ("operator alice", "retried"),
        ("operator", "requested by hand"),
    ]


def test_what_changes_nothing_is_no_order(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    (request,) = harness.on_data(("A", "o1", 1))
    assert harness.ledger.operations.retry(request.processing_id, None, ALICE).changed is False
    assert harness.ledger.operations.cancel("nowhere", None, ALICE) is None
    assert orders(harness) == []


def test_a_refusal_is_for_the_state_in_which_the_order_found_it(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    (request,) = harness.on_data(("A", "o1", 1))
    operations = harness.ledger.operations
    again = operations.retry(request.processing_id, None, ALICE)
    urgent = operations.reprioritize(request.processing_id, Urgency(priority=5), None, ALICE)
    # What becomes of it next is nothing to what was answered.
    harness.report(request, State.FAILED, error="broken")
    for answered in (again, urgent):
        assert answered.row is not None
        assert (answered.row.state, answered.changed) == (State.REQUESTED, False)
    assert operations.retry("nowhere", None, ALICE) == Answered(None, changed=False)


def test_what_was_withdrawn_before_an_order_to_make_something_of_it_is_not_taken_for_there(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    harness.on_data(("A", "o1", 1))
    # Whoever orders has seen that it is available.
    assert harness.views.why("B", "o1").available == {"A": 1}
    withdrawn = Difference(
        kind=DifferenceKind.WITHDRAWN, product="A", obs_id="o1", recorded=1, reason="noise"
    )
    harness.ledger.operations.correct([withdrawn])
    before = harness.views.processings({}, 10, None).items
    with pytest.raises(
        LacksInputsError, match="B of o1: inputs that it needs are not available: A"
    ):
        harness.ledger.operations.make("B", "o1", None, ALICE)
    assert harness.views.processings({}, 10, None).items == before
    assert orders(harness) == []


def test_what_another_graph_dropped_meanwhile_is_not_made_and_said_so(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    harness.on_data(("A", "o1", 1))
    harness.versions.apply(graph_of(["A"], {"C": {"m_input": ["A"]}}), ALICE)
    with pytest.raises(NotInGraphError, match="B is not made by version 2 of the graph, now in"):
        harness.ledger.operations.make("B", "o1", None, ALICE)
    with pytest.raises(NotInGraphError, match="product 'X': not in the graph"):
        harness.ledger.operations.make("X", "o1", None, ALICE)
    assert [each.command for each in orders(harness)] == ["graph apply"]


def test_what_takes_longer_than_a_transaction_is_recorded_before_and_tells_how_far_it_came(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    number = harness.ledger.commands.begin(ALICE, "reconcile --apply", {})
    (order,) = orders(harness)
    assert (order.number, order.changed, order.by) == (number, 0, "operator alice")
    # It is not one that the conductor continues.
    assert harness.ledger.order_sets.under_way() is None
    for changed in (100, 7):
        harness.clock.advance(1)
        harness.ledger.commands.add(number, changed)
    (order,) = orders(harness)
    assert (order.changed, order.ended) == (107, instant_of(harness.clock()))


def test_orders_outlive_a_restart(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    (request,) = harness.on_data(("A", "o1", 1))
    harness.ledger.operations.cancel(request.processing_id, None, BOB)
    harness.close()
    again = open_ledger(GRAPH)
    (order,) = orders(again)
    assert (order.operator, order.proved, order.changed) == ("bob@lab", False, 1)
    assert again.error(request) == "cancelled by operator bob@lab (claimed)"


CALLERS: Mapping[str, tuple[dict[str, str], int, str]] = {
    "nobody": ({}, 200, "operator"),
    "a claim": ({OPERATOR_HEADER: "bob@lab"}, 200, "operator bob@lab (claimed)"),
    "a token": ({"Authorization": f"Bearer {ALICES}"}, 200, "operator alice"),
    "a token and a claim": (
        {"Authorization": f"Bearer {ALICES}", OPERATOR_HEADER: "bob"},
        200,
        "operator alice",
    ),
    "no name": ({OPERATOR_HEADER: " "}, 422, "Batuta-Operator"),
    "a name with a tab": ({OPERATOR_HEADER: "a\tb"}, 422, "Batuta-Operator"),
}


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize("caller", CALLERS)
async def test_a_token_proves_who_calls_and_a_header_claims_it(
    token: str | None, caller: str, tmp_path: Path
) -> None:
    headers, status, shown = CALLERS[caller]
    alices = add_token(tmp_path / "tokens.yaml", "alice", [Scope.READ])
    headers = {name: value.replace(ALICES, alices) for name, value in headers.items()}
    tokens = AccessTokens(token, tmp_path / "tokens.yaml")
    app = create_app(AppConfig(name="x", description="", tokens=tokens))

    @app.get("/who")
    def who(operator: Annotated[Operator, Depends(operator_of)]) -> str:
        return operator.label

    if token is not None:
        headers = {"Authorization": f"Bearer {token}", **headers}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/who", headers=headers)
        wrong = await client.get("/who", headers={"Authorization": f"Bearer {alices}x"})
    assert answer.status_code == status
    assert shown in answer.text
    assert wrong.status_code == (200 if token is None else 401)
