"""What a screen shows, as events change it."""

from io import StringIO

import pytest
from rich.console import Console

from batuta.cli.live.screen import LiveScreen
from batuta.cli.live.state import MAX_OBSERVATIONS, LiveState
from batuta.graph import Graph
from batuta.messaging import (
    Activity,
    ApprovalNews,
    DataAvailable,
    DataWithdrawn,
    GraphInForce,
    Processing,
    ProcessingState,
    Progress,
    ServiceStatus,
    utc_now,
)

URL = "http://127.0.0.1:5000/pipeline"
GRAPH = Graph.parse(
    {
        "inputs": ["A"],
        "products": {
            "B": {"m_input": ["A"], "o_input": [], "provider": "maker", "url": URL},
            "C": {"m_input": ["B"], "o_input": [], "provider": "maker", "url": URL},
        },
    }
)


def moved(state: ProcessingState, kind: str = "pipeline", **given: object) -> Activity:
    values = {"id": "1", "product": "B", "obs_id": "o1", "started": utc_now(), **given}
    return Activity(
        service=ServiceStatus.model_validate({"name": "maker", "kind": kind}),
        processing=Processing.model_validate({**values, "state": state}),
    )


def drawn(live_state: LiveState, height: int = 40) -> str:
    console = Console(file=StringIO(), width=100, height=height, force_terminal=False)
    console.print(LiveScreen(live_state, "title"))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def told(**news: object) -> Activity:
    return Activity(
        service=ServiceStatus.model_validate({"name": "conductor", "kind": "conductor"}),
        **news,
    )


def test_a_new_graph_in_force_is_told_and_asked_for() -> None:
    live_state = LiveState(GRAPH)
    asked: list[str] = []
    live_state.on_new_graph = lambda: asked.append("graph")
    graph = GraphInForce(number=2, digest="d", by="operator ana (claimed)", note="adds C")
    live_state.on_activity(told(graph=graph))
    assert asked == ["graph"]
    expected = "version 2 of the graph is in force, by operator ana (claimed): adds C"
    assert live_state.lines[-1].text == expected


def asked(gate: str, state: str, **answer: str) -> Activity:
    news = {"product": "B", "obs_id": "o1", "gate": gate, "version": "1", "state": state}
    return told(approval=ApprovalNews.model_validate({**news, **answer}))


@pytest.mark.parametrize(
    ("gate", "answer", "state"),
    [
        ("before", "approved", "waiting"),
        ("after", "approved", "available"),
        ("late", "approved", "available"),
        ("after", "refused", "refused"),
    ],
)
def test_what_waits_for_approval_is_shown_until_that_is_answered(
    gate: str, answer: str, state: str
) -> None:
    live_state = LiveState(GRAPH)
    # The sdb announces a version; the conductor tells then that nothing is made from it yet.
    live_state.on_data(DataAvailable(product="B", obs_id="o1", version=1))
    live_state.on_activity(asked(gate, "pending"))
    assert live_state.states["o1"]["B"] == "unapproved"
    assert "o1: B v1 waits for approval" in drawn(live_state)
    live_state.on_activity(asked(gate, answer, by="operator ana", reason="good seeing"))
    assert live_state.states["o1"]["B"] == state
    assert live_state.lines[-1].text == f"o1: B v1 {answer} by operator ana: good seeing"


def test_many_observations_are_counted_by_state_also_what_waits_for_approval() -> None:
    live_state = LiveState(GRAPH)
    for number in range(8):
        live_state.on_data(DataAvailable(product="A", obs_id=f"o{number}"))
        live_state.states[f"o{number}"]["B"] = "unapproved"
    shown = drawn(live_state)
    header = next(line for line in shown.splitlines() if "observation" in line)
    columns = [each.strip() for each in header.strip("┃").split("┃")]
    # What none is in has no column: a terminal may have room for few.
    assert columns[-2:] == ["moving", "unapproved"]
    (row,) = [line for line in shown.splitlines() if "o3 " in line and "│" in line]
    assert [each.strip() for each in row.strip("│").split("│")][-2:] == ["", "1"]


def test_a_product_goes_from_running_with_its_tiles_to_available() -> None:
    live_state = LiveState(GRAPH)
    live_state.on_data(DataAvailable(product="A", obs_id="o1"))
    assert live_state.expected("o1") == {"B", "C"}
    live_state.on_activity(moved(ProcessingState.RUNNING, progress=Progress(done=3, total=8)))
    assert live_state.states["o1"]["B"] == "running"
    assert "3/8" in drawn(live_state)
    live_state.on_data(DataAvailable(product="B", obs_id="o1", version=1, provider="maker"))
    live_state.on_activity(moved(ProcessingState.SUCCEEDED))
    assert live_state.states["o1"]["B"] == "available"
    assert live_state.made("o1") == 1
    assert live_state.running == {}
    assert "B v1 archived by maker" in drawn(live_state)


def test_a_failure_and_its_retry_are_logged_with_the_reason() -> None:
    live_state = LiveState(GRAPH)
    live_state.on_data(DataAvailable(product="A", obs_id="o1"))
    retry = moved(ProcessingState.RETRYING, kind="conductor", attempt=1, error="disk full")
    live_state.on_activity(retry)
    assert live_state.retries == 1
    assert "B failed (attempt 1, to be retried): disk full" in drawn(live_state)


def test_a_final_failure_and_a_cancellation_are_told_whoever_reports_first() -> None:
    live_state = LiveState(GRAPH)
    for kind in ("pipeline", "conductor"):
        live_state.on_activity(moved(ProcessingState.FAILED, kind, attempt=2, error="disk full"))
    cancelled = moved(ProcessingState.CANCELLED, "conductor", product="C", error="by a person")
    live_state.on_activity(cancelled)
    assert [line.text for line in live_state.lines] == [
        "o1: B failed (attempt 2, the last): disk full",
        "o1: C cancelled: by a person",
    ]


def test_a_notice_of_a_service_is_told_once() -> None:
    live_state = LiveState(GRAPH)
    status = ServiceStatus(name="maker", kind="pipeline", notice="reloaded b.py")
    for _heartbeat in range(3):
        live_state.on_activity(Activity(service=status))
    assert [line.text for line in live_state.lines] == ["maker: reloaded b.py"]


def test_a_withdrawal_is_told_and_only_the_last_version_is_missing_then() -> None:
    live_state = LiveState(GRAPH)
    for product in ("A", "B"):
        live_state.on_data(DataAvailable(product=product, obs_id="o1", version=2))
    for product, newest in (("A", 1), ("B", None)):
        live_state.on_data(
            DataWithdrawn(
                product=product, obs_id="o1", version=2, withdrawn=utc_now(), newest=newest
            )
        )
    assert live_state.states["o1"] == {"A": "available", "B": "withdrawn"}
    assert live_state.made("o1") == 0
    assert live_state.expected("o1") == {"B", "C"}
    assert [line.text for line in live_state.lines][2:] == [
        "o1: A v2 withdrawn",
        "o1: B v2 withdrawn",
    ]
    assert "withdrawn" in drawn(live_state)


def test_a_late_event_does_not_undo_what_is_available() -> None:
    live_state = LiveState(GRAPH)
    live_state.on_data(DataAvailable(product="B", obs_id="o1", version=1))
    live_state.on_activity(moved(ProcessingState.RUNNING))
    assert live_state.states["o1"]["B"] == "available"


def test_many_observations_have_a_line_each() -> None:
    live_state = LiveState(GRAPH)
    for number in range(200):
        live_state.on_data(DataAvailable(product="A", obs_id=f"o{number:03}"))
    shown = drawn(live_state, height=50)
    assert "o000" in shown
    assert "0/2" in shown
    assert len(shown.splitlines()) <= 55


def test_the_cause_of_the_latest_failure_is_whole_at_80_columns() -> None:
    live_state = LiveState(GRAPH)
    live_state.on_data(DataAvailable(product="A", obs_id="o1"))
    cause = "KeyError: 'value', which no reading has (weather.py:13 in statistics) THE_END"
    live_state.on_activity(moved(ProcessingState.FAILED, "conductor", attempt=3, error=cause))
    console = Console(file=StringIO(), width=80, height=24, force_terminal=False)
    console.print(LiveScreen(live_state, "title"))
    assert isinstance(console.file, StringIO)
    assert "THE_END" in console.file.getvalue()
    assert len(console.file.getvalue().splitlines()) <= console.height


def test_observations_that_were_not_heard_of_for_longest_are_forgotten() -> None:
    live_state = LiveState(GRAPH)
    for number in range(MAX_OBSERVATIONS + 5):
        live_state.on_data(DataAvailable(product="A", obs_id=f"o{number}"))
        live_state.on_data(DataAvailable(product="B", obs_id="o0", version=number + 1))
    assert len(live_state.states) == MAX_OBSERVATIONS
    assert {"o0", f"o{MAX_OBSERVATIONS + 4}"} <= live_state.states.keys()
    assert "o1" not in live_state.states
