"""The REST interface of a pipeline, as curl and the conductor see it."""

import json
import shutil
import subprocess
import uuid
from pathlib import Path

import httpx
import pytest

from tests.pipeline.conftest import StartPipeline
from tests.pipeline.pipeline_process import PipelineProcess, alive, read
from tests.support.waiting import eventually_sync


def test_a_request_is_answered_at_once_with_the_record_and_its_address(
    service: PipelineProcess,
) -> None:
    response = service.http.post("/processing", json={"product": "WAITS", "obs_id": "sb1"})
    assert response.status_code == 202
    record = response.json()
    assert record["state"] == "queued"
    assert (record["product"], record["obs_id"], record["attempt"]) == ("WAITS", "sb1", 1)
    assert response.headers["Location"].endswith(f"/pipeline/processing/{record['id']}")
    assert service.http.get(response.headers["Location"]).json()["id"] == record["id"]
    (service.stage / "go on").touch()
    assert service.end_of(record)["state"] == "succeeded"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_request_by_curl_needs_no_header(service: PipelineProcess) -> None:
    address = f"{service.http.base_url}processing"
    body = '{"product": "MANY", "obs_id": "sb1"}'
    done = subprocess.run(
        ["curl", "-sS", "-X", "POST", address, "-d", body],
        capture_output=True,
        text=True,
        check=True,
    )
    assert service.end_of(json.loads(done.stdout))["state"] == "succeeded"


def test_an_unknown_product_is_not_found_and_the_known_ones_are_named(
    service: PipelineProcess,
) -> None:
    response = service.http.post("/processing", json={"product": "QPO", "obs_id": "sb1"})
    assert response.status_code == 404
    assert "product 'QPO': not offered here (known: " in response.json()["detail"]
    assert "COPY" in response.json()["known"]


def test_a_body_that_is_wrong_is_refused_with_every_mistake(service: PipelineProcess) -> None:
    refused = {
        "obs_id: missing": {"product": "COPY"},
        "product: missing; obs_id: missing": {},
        "obs_id: String should match": {"product": "COPY", "obs_id": "../etc"},
        "processing_id: String should match": {
            "product": "COPY",
            "obs_id": "sb1",
            "processing_id": "../x",
        },
        "attempt: ": {"product": "COPY", "obs_id": "sb1", "attempt": 0},
        "inputs.A: Input should be greater than or equal to 0": {
            "product": "COPY",
            "obs_id": "sb1",
            "inputs": {"A": -1},
        },
        "graph_version: ": {"product": "COPY", "obs_id": "sb1", "graph_version": ""},
        "obsid: ": {"product": "COPY", "obs_id": "sb1", "obsid": "sb1"},
    }
    known = service.records()
    for detail, body in refused.items():
        response = service.http.post("/processing", json=body)
        assert response.status_code == 422
        assert detail in response.json()["detail"]
    response = service.http.post("/processing", content=b"product=COPY")
    assert response.status_code == 422
    assert response.json()["detail"].startswith("body: Invalid JSON")
    response = service.http.post("/processing", content=b"x" * 100_000)
    assert response.status_code == 413
    assert service.records() == known


def test_a_full_queue_is_refused_for_now_but_a_known_request_is_answered(
    start_pipeline: StartPipeline,
) -> None:
    service = start_pipeline(max_concurrent=1, max_queued=1)
    service.post("WAITS")
    read(service.stage / "entered")
    waiting = service.post("WAITS", "sb2", processing_id="p2")
    response = service.http.post("/processing", json={"product": "WAITS", "obs_id": "sb3"})
    assert response.status_code == 429
    assert float(response.headers["Retry-After"]) > 0
    assert service.post("WAITS", "sb2", processing_id="p2") == waiting
    (service.stage / "go on").touch()
    assert service.end_of(waiting)["state"] == "succeeded"


def test_the_same_request_twice_starts_one_processing(
    service: PipelineProcess, processing_id: str
) -> None:
    body = {"product": "WORKS", "obs_id": "sb1", "processing_id": processing_id}
    assert service.http.post("/processing", json=body).status_code == 202
    again = service.http.post("/processing", json=body)
    assert again.status_code == 200
    assert again.json()["id"] == processing_id
    (service.stage / "go on").touch()
    service.end_of({"id": processing_id})
    assert service.http.post("/processing", json=body).json()["state"] == "succeeded"
    higher = service.http.post("/processing", json={**body, "attempt": 2}).json()
    assert (higher["state"], higher["attempt"]) == ("succeeded", 1)
    assert read(service.stage / "entries") == "entered\n"


def test_what_failed_starts_again_only_for_a_higher_attempt(
    service: PipelineProcess, processing_id: str
) -> None:
    failed = service.make("FAILS_ONCE", processing_id=processing_id)
    assert failed["state"] == "failed"
    assert service.post("FAILS_ONCE", processing_id=processing_id) == failed
    again = service.post("FAILS_ONCE", processing_id=processing_id, attempt=3)
    assert (again["state"], again["attempt"], again["error"]) == ("queued", 3, None)
    assert service.end_of(again)["state"] == "succeeded"
    log = service.log(again)
    assert "attempt 1: started" in log
    assert "attempt 3: started" in log
    path = f"/processing/{processing_id}/log"
    parts = [service.http.get(path, params={"attempt": each}) for each in (1, 3)]
    assert "".join(part.text for part in parts) == log
    assert [part.headers["X-Log-Attempt"] for part in parts] == ["1", "3"]
    assert parts[1].text.count(": started") == 1
    missing = service.http.get(path, params={"attempt": 2})
    assert missing.status_code == 404
    assert missing.json()["detail"].endswith("no log of attempt 2 (it has: 1, 3)")


def test_a_log_is_bounded_and_its_end_can_be_asked_for(start_pipeline: StartPipeline) -> None:
    service = start_pipeline(log_max_mb=0.01)
    record = service.make("CHATTY")
    log = service.log(record)
    assert "attempt 1: started" in log
    assert "the last line" in log
    assert "[log cut: " in log
    assert len(log) <= 0.01 * 2**20
    path = f"/processing/{record['id']}/log"
    assert service.http.get(path, params={"tail": 100}).text == log[-100:]
    assert service.http.get(path, params={"tail": 10**9}).text == log
    assert service.http.get(path, params={"tail": 0}).status_code == 422


def test_an_id_is_refused_for_another_product(service: PipelineProcess, processing_id: str) -> None:
    service.make("MANY", processing_id=processing_id)
    body = {"product": "MANY", "obs_id": "sb2", "processing_id": processing_id}
    response = service.http.post("/processing", json=body)
    assert response.status_code == 409
    already = f"processing_id {processing_id!r}: already used for MANY of sb1"
    assert response.json()["detail"] == already


def test_a_running_processing_is_cancelled_with_all_that_it_started(
    service: PipelineProcess,
) -> None:
    record = service.post("WORKS")
    pids = read(service.stage / "pids")
    work_dir = Path(read(service.stage / "work_dir"))
    assert len(alive(pids)) == 3
    response = service.http.delete(f"/processing/{record['id']}")
    assert response.status_code == 200
    assert (response.json()["state"], response.json()["error"]) == (
        "cancelled",
        "cancelled on request",
    )
    assert alive(pids) == []
    assert not work_dir.exists()
    assert service.make("MANY")["state"] == "succeeded"


def test_a_queued_processing_is_cancelled_before_it_starts(
    service: PipelineProcess,
) -> None:
    running = [service.post("WAITS") for _ in range(service.settings.max_concurrent)]
    for record in running:
        eventually_sync(lambda: service.get(record)["progress"]["done"] == 1)  # noqa: B023  called here
    queued = service.post("WORKS")
    assert queued["state"] == "queued"
    assert service.http.delete(f"/processing/{queued['id']}").json()["state"] == "cancelled"
    (service.stage / "go on").touch()
    assert {service.end_of(record)["state"] for record in running} == {"succeeded"}
    assert service.make("MANY")["state"] == "succeeded"
    assert not (service.stage / "entries").exists()


def test_a_late_stop_of_an_earlier_attempt_leaves_the_later_one_alone(
    service: PipelineProcess,
) -> None:
    blocking = [service.post("WAITS") for _ in range(service.settings.max_concurrent)]
    for record in blocking:
        eventually_sync(lambda: service.get(record)["progress"]["done"] == 1)  # noqa: B023  called here
    asked = {"obs_id": "sb1", "processing_id": str(uuid.uuid4())}
    queued = service.post("WAITS", **asked, attempt=1)
    assert service.post("WAITS", **asked, attempt=2)["attempt"] == 2
    path = f"/processing/{queued['id']}"
    assert service.http.delete(f"{path}?attempt=1").json()["state"] == "queued"
    service.http.delete(f"/processing/{blocking[0]['id']}").raise_for_status()
    eventually_sync(lambda: service.get(queued)["progress"]["done"] == 1)
    assert service.http.delete(f"{path}?attempt=1").json()["state"] == "running"
    assert service.http.delete(f"{path}?attempt=2").json()["state"] == "cancelled"
    (service.stage / "go on").touch()
    for record in blocking:
        service.end_of(record)


def test_cancelling_what_has_ended_changes_nothing(service: PipelineProcess) -> None:
    record = service.make("MANY")
    assert service.http.delete(f"/processing/{record['id']}").json() == record


def test_an_unknown_processing_is_not_found(service: PipelineProcess) -> None:
    for response in [
        service.http.get("/processing/p0"),
        service.http.get("/processing/p0/log"),
        service.http.delete("/processing/p0"),
    ]:
        assert response.status_code == 404
        assert response.json()["detail"] == "processing 'p0': not found"


def test_processings_are_listed_by_pages_the_newest_first(
    service: PipelineProcess, obs_id: str
) -> None:
    made = [service.make("MANY", f"{obs_id}-{number}") for number in range(3)]
    made.append(service.make("RAISES", f"{obs_id}-2"))
    first = service.http.get("/processing", params={"limit": 3}).json()
    assert first["items"] == made[:0:-1]
    rest = service.http.get("/processing", params={"cursor": first["next"]}).json()
    assert rest["items"][0] == made[0]
    page: dict[str, str | int] = {"obs_id": f"{obs_id}-2", "limit": 1}
    newest = service.http.get("/processing", params=page).json()
    assert newest["items"] == [made[3]]
    last = service.http.get("/processing", params={**page, "cursor": newest["next"]}).json()
    assert (last["items"], last["next"]) == ([made[2]], None)


def test_processings_are_listed_by_state_observation_and_product(
    service: PipelineProcess, obs_id: str
) -> None:
    made, failed = (service.make(product, obs_id) for product in ("MANY", "RAISES"))
    assert service.records(state="failed")[0] == failed
    assert made not in service.records(state="failed")
    assert service.records(obs_id=obs_id) == [failed, made]
    assert service.records(product="MANY", obs_id=obs_id) == [made]
    assert service.http.get("/processing", params={"state": "lost"}).status_code == 422


def test_the_progress_of_a_running_processing_is_shown(
    service: PipelineProcess, obs_id: str
) -> None:
    record = service.post("WAITS", obs_id)
    eventually_sync(lambda: service.get(record)["progress"] == {"done": 1, "total": 4})
    now = service.get(record)
    assert (now["state"], now["ended"]) == ("running", None)
    assert service.records(obs_id=obs_id) == [now]
    (service.stage / "go on").touch()
    assert service.end_of(record)["state"] == "succeeded"


def test_retention_is_shown_and_applied_with_and_without_the_prefix(
    service: PipelineProcess,
) -> None:
    root = str(service.http.base_url).removesuffix("/pipeline/")
    for prefix in [root, f"{root}/pipeline"]:
        assert httpx.get(f"{prefix}/retention").json()["applied"] is False
        applied = httpx.post(f"{prefix}/retention").json()
        assert (applied["applied"], applied["processings"]) == (True, 0)
        assert applied["rules"]["finished_days"] == "never"


def test_health_and_metrics_answer_with_and_without_the_prefix(
    own_service: PipelineProcess,
) -> None:
    own_service.make("MANY")
    own_service.make("RAISES")
    root = str(own_service.http.base_url).removesuffix("/pipeline/")
    for prefix in [root, f"{root}/pipeline"]:
        assert httpx.get(f"{prefix}/health").json()["status"] == "ok"
        metrics = httpx.get(f"{prefix}/metrics").text
        assert 'batuta_processings_ended_total{product="MANY",state="succeeded"} 1.0' in metrics
        assert 'batuta_processings_ended_total{product="RAISES",state="failed"} 1.0' in metrics
        assert 'batuta_processings{state="running"} 0.0' in metrics
        assert 'batuta_processing_wait_seconds_count{product="MANY"} 1.0' in metrics
