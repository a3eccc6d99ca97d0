"""What the dashboard shows live follows from what is heard and from the conductor's records."""

from typing import Any

import pytest

from batuta.dashboard import live_model
from batuta.dashboard.live_model import LiveModel
from batuta.dashboard.records import MatrixRow
from batuta.graph import Graph
from batuta.messaging import (
    Activity,
    DataAvailable,
    DataWithdrawn,
    Processing,
    ProcessingState,
    Progress,
    ServiceStatus,
    utc_now,
)
from batuta.testing import FakeClock

MADE = {"o_input": [], "provider": "maker", "url": "http://127.0.0.1:1"}
GRAPH = Graph.parse(
    {
        "inputs": ["A"],
        "products": {"B": {"m_input": ["A"], **MADE}, "C": {"m_input": ["B"], **MADE}},
    }
)
CONDUCTOR = ServiceStatus(name="conductor", kind="conductor")
MAKER = ServiceStatus(name="maker", kind="pipeline")


@pytest.fixture
def model() -> LiveModel:
    made = LiveModel(FakeClock())
    made.replace_graph(GRAPH, 1)
    return made


def letters(model: LiveModel, obs_id: str = "o1") -> str:
    found: dict[str, Any] = model.table[f"obs/{obs_id}"]
    return str(found["s"])


def processing(state: str, product: str = "B", **values: Any) -> Processing:
    return Processing(id="p1", product=product, obs_id="o1", state=ProcessingState(state), **values)


def test_the_graph_is_shown_level_by_level_with_the_places_of_a_picture(model: LiveModel) -> None:
    shown = model.table["graph"]
    assert shown["levels"] == [["A"], ["B"], ["C"]]
    assert set(shown["places"]) == {"A", "B", "C"}
    assert shown["edges"][0][:3] == ["A", "B", True]
    assert shown["number"] == 1


def test_an_observation_goes_from_arrival_to_its_products(model: LiveModel) -> None:
    model.on_data(DataAvailable(product="A", obs_id="o1"))
    assert letters(model) == "A.."
    model.on_activity(Activity(service=CONDUCTOR, processing=processing("requested")))
    assert letters(model) == "Ar."
    running = processing("running", progress=Progress(done=1, total=4))
    model.on_activity(Activity(service=MAKER, processing=running))
    assert letters(model) == "AR."
    assert model.table["run/p1"]["done"] == 1
    model.on_activity(Activity(service=MAKER, processing=processing("succeeded")))
    assert "run/p1" not in model.table
    model.on_data(DataAvailable(product="B", obs_id="o1", version=1, provider="maker"))
    assert letters(model) == "AA."


def test_what_fails_at_a_pipeline_is_failed_when_the_conductor_says_so(model: LiveModel) -> None:
    model.on_activity(Activity(service=MAKER, processing=processing("running")))
    model.on_activity(Activity(service=MAKER, processing=processing("failed", error="no light")))
    assert letters(model) == ".R."
    model.on_activity(
        Activity(service=CONDUCTOR, processing=processing("retrying", error="no light"))
    )
    assert letters(model) == ".t."
    model.on_activity(
        Activity(service=CONDUCTOR, processing=processing("failed", error="no light"))
    )
    assert letters(model) == ".F."
    assert "no light" in model.table["lines"][-1]["text"]


def test_a_line_that_is_told_again_is_shown_once(model: LiveModel) -> None:
    for text in ("a", "b", "b", "a"):
        model.note(text)
    assert [line["text"] for line in model.table["lines"]] == ["a", "b", "a"]


def test_what_is_heard_late_of_the_past_changes_nothing(model: LiveModel) -> None:
    model.on_activity(Activity(service=MAKER, processing=processing("running")))
    model.on_activity(Activity(service=CONDUCTOR, processing=processing("requested")))
    assert letters(model) == ".R."
    made = DataAvailable(product="B", obs_id="o1", version=1, processing_id="p1")
    model.on_data(made)
    for service, state in ((MAKER, "running"), (CONDUCTOR, "requested"), (CONDUCTOR, "running")):
        model.on_activity(Activity(service=service, processing=processing(state)))
    assert letters(model) == ".A."
    assert "run/p1" not in model.table


def test_what_the_conductor_says_has_succeeded_is_available(model: LiveModel) -> None:
    model.on_activity(Activity(service=CONDUCTOR, processing=processing("running")))
    model.on_activity(Activity(service=CONDUCTOR, processing=processing("succeeded")))
    assert letters(model) == ".A."


def test_a_further_attempt_is_shown_though_the_one_before_had_come_further(
    model: LiveModel,
) -> None:
    model.on_activity(Activity(service=MAKER, processing=processing("running")))
    failed = processing("retrying", error="no light")
    model.on_activity(Activity(service=CONDUCTOR, processing=failed))
    again = processing("requested", attempt=2)
    model.on_activity(Activity(service=CONDUCTOR, processing=again))
    assert letters(model) == ".r."


def test_a_withdrawn_version_leaves_the_product_if_there_is_another(model: LiveModel) -> None:
    withdrawn = {"product": "A", "obs_id": "o1", "version": 2, "withdrawn": utc_now()}
    model.on_data(DataAvailable(product="A", obs_id="o1", version=2))
    model.on_data(DataWithdrawn(**withdrawn, newest=1))
    assert letters(model) == "A.."
    model.on_data(DataWithdrawn(**withdrawn, newest=None))
    assert letters(model) == "W.."


def test_the_records_of_the_conductor_replace_what_was_heard(model: LiveModel) -> None:
    model.on_activity(Activity(service=CONDUCTOR, processing=processing("failed")))
    states = {"A": "available", "B": "available"}
    row = MatrixRow(obs_id="o1", states=states, stale=["B"])
    older = MatrixRow(obs_id="o0", states={"A": "available"})
    assert model.load([row, older], model.heard) == 0
    assert letters(model) == "AS."
    assert letters(model, "o0") == "A.."


def test_records_that_are_older_than_what_was_heard_meanwhile_are_left(model: LiveModel) -> None:
    asked_at = model.heard
    model.on_data(DataAvailable(product="A", obs_id="o1"))
    model.on_data(DataAvailable(product="B", obs_id="o1", version=1))
    row = MatrixRow(obs_id="o1", states={"A": "available", "B": "running"})
    assert model.load([row], asked_at) == 1
    assert letters(model) == "AA."


def test_a_product_that_the_graph_does_not_have_changes_nothing(model: LiveModel) -> None:
    model.on_data(DataAvailable(product="Z", obs_id="o1"))
    assert letters(model) == "..."


def test_another_graph_leaves_no_observation_of_the_one_before(model: LiveModel) -> None:
    model.on_data(DataAvailable(product="A", obs_id="o1"))
    model.replace_graph(Graph.parse({"inputs": ["X"], "products": {}}), 2)
    assert "obs/o1" not in model.table
    model.on_data(DataAvailable(product="X", obs_id="o1"))
    assert letters(model) == "A"


def test_what_is_held_has_a_bound(model: LiveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_model, "MAX_OBSERVATIONS", 2)
    monkeypatch.setattr(live_model, "MAX_RUNNING", 2)
    monkeypatch.setattr(live_model, "MAX_SERVICES", 2)
    for number in range(5):
        model.on_data(DataAvailable(product="A", obs_id=f"o{number}"))
        service = ServiceStatus(name=f"maker{number}", kind="pipeline")
        made = processing("running").model_copy(update={"id": f"p{number}"})
        model.on_activity(Activity(service=service, processing=made))
    kept = [key for key in model.table.snapshot().body.decode().split('"') if "/" in key]
    assert sum(key.startswith("obs/") for key in kept) == 2
    assert sum(key.startswith("run/") for key in kept) == 2
    assert sum(key.startswith("service/") for key in kept) == 2
