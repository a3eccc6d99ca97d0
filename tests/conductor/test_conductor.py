"""The conductor as a service: real NATS, a real sdb, and a pipeline that does as it is told."""

import asyncio
import json
from typing import Any

import httpx
import nats
import nats.errors
import pytest
from fastapi.responses import JSONResponse

from batuta.cli.app import run as run_command
from batuta.conductor import activity
from batuta.conductor.service import open_conductor
from batuta.errors import ConfigurationError
from batuta.messaging import Activity, ServiceStatus, bus
from batuta.messaging.events import activity_event
from tests.conductor.graphs import diamond, graph_of
from tests.conductor.stage import Stage, eventually_in, get, one_processing, states
from tests.support.services import ServiceProcess, serving
from tests.support.waiting import eventually_sync

ONE = {"B": {"m_input": ["A"], "timeout": 60}}


def test_a_bare_notification_has_the_product_made(stage: Stage) -> None:
    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        stage.announce("A", "sb25112001")
        eventually_in(url, {"B/sb25112001": "succeeded"})
    (request,) = stage.pipeline.requests
    assert (request["product"], request["obs_id"], request["attempt"]) == ("B", "sb25112001", 1)
    assert request["processing_id"]


def test_what_the_sdb_announces_is_heard(stage: Stage) -> None:
    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        stage.archive("A", "o1")
        eventually_in(url, {"B/o1": "succeeded"})
        processing = one_processing(url)()
    assert processing["inputs"] == {"A": 1}


def test_a_failure_is_tried_again_until_it_works(stage: Stage) -> None:
    stage.pipeline.outcomes["B"].extend(["failed", "failed"])
    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "succeeded"})
    assert [body["attempt"] for body in stage.pipeline.requests] == [1, 2, 3]
    assert len({body["processing_id"] for body in stage.pipeline.requests}) == 1


def test_a_product_that_always_fails_is_shown_with_the_reason(stage: Stage) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 2}})
    stage.pipeline.outcomes["B"].extend(["failed"] * 3)
    with serving(open_conductor, stage.settings(graph)) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "failed"})
        processing = one_processing(url)()
        assert processing["error"] == "scripted"
        assert "scripted" in get(url, "/why/B/o1")["answer"]
        # A person asks again.
        stage.pipeline.outcomes.clear()
        retry = httpx.post(f"{url}/processings/{processing['id']}/retry")
        assert retry.status_code == 202
        eventually_in(url, {"B/o1": "succeeded"})


def test_a_pipeline_that_is_not_there_is_named_and_tried_again(stage: Stage) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 2}})
    nowhere = {"maker": "http://127.0.0.1:1/pipeline"}
    with serving(open_conductor, stage.settings(graph, provider_urls=nowhere)) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "failed"})
        error = one_processing(url)()["error"]
    assert "maker at http://127.0.0.1:1/pipeline" in error


def test_a_request_that_the_pipeline_refuses_is_not_repeated(stage: Stage) -> None:
    detail = {"detail": "product 'B': unknown"}
    stage.pipeline.answers.append(JSONResponse(detail, 404))
    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "failed"})
        assert one_processing(url)()["error"] == "maker: product 'B': unknown"
    assert len(stage.pipeline.requests) == 1


def test_a_full_pipeline_is_asked_again_when_it_says(stage: Stage) -> None:
    for _ in range(3):
        stage.pipeline.answers.append(
            JSONResponse({"detail": "full"}, 429, headers={"Retry-After": "0.1"})
        )
    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "succeeded"})
    assert {body["attempt"] for body in stage.pipeline.requests} == {1}


def test_a_silent_pipeline_is_asked_how_it_is_going(stage: Stage) -> None:
    stage.pipeline.outcomes["B"].append("running")
    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "running"})
        stage.pipeline.end(one_processing(url)()["id"], "succeeded")
        eventually_in(url, {"B/o1": "succeeded"})


def test_a_processing_that_its_pipeline_lost_is_requested_again(stage: Stage) -> None:
    stage.pipeline.outcomes["B"].append("running")
    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "running"})
        stage.pipeline.processings.clear()
        eventually_in(url, {"B/o1": "succeeded"})
    assert [body["attempt"] for body in stage.pipeline.requests] == [1, 2]


def test_a_processing_that_never_ends_is_stopped_and_tried_again(stage: Stage) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"], "timeout": 0.3}})
    stage.pipeline.outcomes["B"].append("running")
    with serving(open_conductor, stage.settings(graph)) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "succeeded"})
    # On a busy machine the second attempt may be late too, and a request repeated.
    assert set(stage.pipeline.cancelled) == {stage.pipeline.requests[0]["processing_id"]}
    attempts = [body["attempt"] for body in stage.pipeline.requests]
    assert attempts == list(range(1, len(attempts) + 1))
    assert len(attempts) >= 2


def test_what_nobody_understands_is_put_aside_with_the_reason(stage: Stage) -> None:
    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        stage.publish(
            "data.vhf",
            b"not json",
            b'{"product": "A"}',
            b'{"product": "Aa", "obs_id": "o1"}',
            b'{"product": "A", "obs_id": "../../etc"}',
            b'{"product": "A", "obs_id": "o2"}',
        )
        eventually_in(url, {"B/o2": "succeeded"})
        metrics = httpx.get(f"{url}/metrics").text
    assert "batuta_malformed_total 4.0" in metrics
    reasons = asyncio.run(dead_reasons(stage.nats.url))
    assert len(reasons) == 4
    assert "obs_id: Field required" in reasons[1]
    assert reasons[2] == "product 'Aa' of o1: not in the graph; did you mean A?"


async def dead_reasons(url: str) -> list[str]:
    client = await nats.connect(url)
    jetstream = client.jetstream()
    subscription = await jetstream.subscribe("dead.*", ordered_consumer=True)
    info = await jetstream.stream_info("DEAD")
    messages = [await subscription.next_msg(5) for _ in range(info.state.messages)]
    await client.close()
    return [(message.headers or {})["Batuta-Reason"] for message in messages]


def test_a_product_that_the_sdb_does_not_hold_is_not_available(stage: Stage) -> None:
    with serving(open_conductor, stage.settings(diamond())) as url:
        stage.publish(
            "data.vhf",
            b'{"product": "B", "obs_id": "o1"}',
            b'{"product": "C", "obs_id": "o1", "version": 2147483647}',
        )
        stage.publish("data.sdb", b'{"product": "A", "obs_id": "o1"}')
        stage.archive("A", "o2")
        eventually_in(url, dict.fromkeys(("B/o2", "C/o2", "D/o2"), "succeeded"))
        assert httpx.get(f"{url}/observations/o1").status_code == 404
    assert asyncio.run(dead_reasons(stage.nats.url)) == [
        "B of o1: the sdb does not hold a version of it",
        "C of o1: the sdb does not hold version 2147483647 of it",
        "A of o1: the sdb does not hold a version of it",
    ]


def test_a_success_without_a_product_is_a_failed_attempt(stage: Stage) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 3}})
    stage.pipeline.outcomes["B"].extend(["unarchived", "unarchived", "succeeded"])
    with serving(open_conductor, stage.settings(graph)) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "succeeded"})
    assert [body["attempt"] for body in stage.pipeline.requests] == [1, 2, 3]


@pytest.mark.parametrize("archived", [False, True], ids=["nothing archived", "archived by hand"])
def test_a_success_that_anyone_reports_is_not_believed(stage: Stage, *, archived: bool) -> None:
    stage.pipeline.outcomes["B"].append("running")
    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        if archived:
            stage.archive("B", "o2")
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "running"})
        running = one_processing(url)()
        claim = {"id": running["id"], "product": "B", "obs_id": "o1", "state": "succeeded"}
        service = {"name": "maker", "kind": "pipeline"}
        report = activity_event(Activity.model_validate({"service": service, "processing": claim}))
        asked = stage.pipeline.asked
        stage.publish("activity.maker", report.encode())
        eventually_sync(lambda: stage.pipeline.asked > asked)
        assert states(url) == {"B/o1": "running"}


def test_who_reports_for_another_service_is_put_aside(stage: Stage) -> None:
    report = Activity(service=ServiceStatus(name="maker", kind="pipeline"))
    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        eventually_sync(lambda: "conductor" in [each["name"] for each in services(url)])
        stage.publish("activity.other", activity_event(report).encode())
        eventually_sync(lambda: "batuta_malformed_total 1.0" in httpx.get(f"{url}/metrics").text)
        assert "maker" not in [each["name"] for each in services(url)]
    assert asyncio.run(dead_reasons(stage.nats.url)) == [
        "maker reports on activity.other: not its own"
    ]


def services(url: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = get(url, "/services")["items"]
    return listed


def test_a_pipeline_that_knows_no_processing_ids_is_followed_by_its_import(stage: Stage) -> None:
    stage.pipeline.archive = lambda made: stage.archive(made["product"], made["obs_id"])
    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "succeeded"})
    assert len(stage.pipeline.requests) == 1


def test_what_the_sdb_announces_ends_the_processing_that_made_it(stage: Stage) -> None:
    stage.pipeline.outcomes["B"].append("running")
    settings = stage.settings(graph_of(["A"], ONE), ask_after_s=3600)
    with serving(open_conductor, settings) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "running"})
        stage.archive("B", "o1", one_processing(url)()["id"])
        eventually_in(url, {"B/o1": "succeeded"})


def test_another_product_under_the_id_of_a_processing_does_not_end_it(stage: Stage) -> None:
    stage.pipeline.outcomes["B"].append("running")
    with serving(open_conductor, stage.settings(graph_of(["A", "X"], ONE))) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "running"})
        stage.archive("X", "o1", one_processing(url)()["id"])
        eventually_sync(lambda: "X" in str(get(url, "/observations/o1")))
        assert states(url) == {"B/o1": "running"}


def test_nats_gone_in_the_middle_loses_nothing(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(open_conductor, stage.settings(diamond())) as url:
        stage.announce("A", "o1")
        eventually_in(url, dict.fromkeys(("B/o1", "C/o1", "D/o1"), "succeeded"))
        stage.nats.stop()
        eventually_sync(lambda: get(url, "/health")["status"] == "degraded")
        assert run_command(["status", "--conductor-url", url]) == 0
        assert "nats: not connected" in capsys.readouterr().out
        stage.archive("A", "o2")
        stage.nats.start()
        expected = {f"{product}/{o}": "succeeded" for product in "BCD" for o in ("o1", "o2")}
        eventually_in(url, expected)


def test_nats_that_comes_back_empty_is_listened_to_again(stage: Stage) -> None:
    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        stage.nats.stop()
        stage.nats.forget()
        eventually_sync(lambda: get(url, "/health")["status"] == "degraded")
        stage.nats.start()
        eventually_sync(lambda: asyncio.run(stage.stored({"product": "A", "obs_id": "o1"})))
        eventually_in(url, {"B/o1": "succeeded"})


def test_what_nats_forgets_while_it_is_connected_is_restored(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "CHECK_INTERVAL_S", 0.1)

    async def delete() -> None:
        client = await nats.connect(stage.nats.url)
        jetstream = client.jetstream()
        await jetstream.delete_stream("DATA")
        for info in await jetstream.consumers_info("ACTIVITY"):
            await jetstream.delete_consumer("ACTIVITY", info.name)
        await client.close()

    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "succeeded"})
        asyncio.run(delete())
        eventually_sync(lambda: asyncio.run(stage.stored({"product": "A", "obs_id": "o2"})))
        eventually_in(url, {"B/o1": "succeeded", "B/o2": "succeeded"})
        assert get(url, "/health")["status"] == "ok"


def test_health_names_what_the_conductor_needs_and_cannot_use(stage: Stage) -> None:
    settings = stage.settings(graph_of(["A"], ONE))
    with serving(open_conductor, settings) as url:
        eventually_sync(lambda: get(url, "/health")["status"] == "ok")
    away = settings.model_copy(update={"sdb_url": "http://127.0.0.1:1"})
    with serving(open_conductor, away) as url:
        (stage.folder / "conductor.db").rename(stage.folder / "moved.db")
        eventually_sync(lambda: get(url, "/health")["problems"].keys() == {"database", "sdb"}, 20)
        problems = get(url, "/health")["problems"]
    assert "sdb at http://127.0.0.1:1 cannot be reached" in problems["sdb"]
    assert "not checked" not in problems["database"]


def test_services_beyond_the_bound_are_not_listed_and_those_that_are_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activity, "MAX_SERVICES", 3)
    registry = activity.ServiceRegistry()
    for number in range(10):
        registry.record(ServiceStatus(name=f"service-{number}", kind="pipeline"))
    registry.record(ServiceStatus(name="service-0", kind="pipeline", state="stopped"))
    listed = {service.name: service.state for service in registry.services()}
    assert listed == {"service-0": "stopped", "service-1": "up", "service-2": "up"}


def test_a_conductor_killed_while_it_works_makes_each_product_once(stage: Stage) -> None:
    observations = [f"o{number:03}" for number in range(60)]
    settings = stage.settings(diamond())
    conductor = stage.conductor = ServiceProcess("batuta.conductor:run", settings)
    conductor.start()
    stage.announce("A", *observations[:30])
    eventually_sync(lambda: len(stage.pipeline.requests) > 10)
    conductor.kill()
    stage.announce("A", *observations[30:])
    url = conductor.start()
    expected = {f"{product}/{o}": "succeeded" for product in "BCD" for o in observations}
    eventually_in(url, expected)
    assert conductor.stop() == 0
    made = {(body["product"], body["obs_id"]) for body in stage.pipeline.requests}
    assert len(made) == len(expected)
    # A request may be sent twice, always under the same id: the pipeline starts it once.
    assert len(stage.pipeline.processings) == len(expected)


def test_a_conductor_that_lost_its_database_makes_nothing_again(stage: Stage) -> None:
    settings = stage.settings(graph_of(["A"], {**ONE, "C": {"m_input": ["B"]}}))
    with serving(open_conductor, settings) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "succeeded", "C/o1": "succeeded"})
    stage.archive("B", "o2")
    lost = settings.model_copy(update={"database_url": f"sqlite:///{stage.folder / 'new.db'}"})
    with serving(open_conductor, lost) as url:
        eventually_in(url, {"C/o2": "succeeded"})
    assert stage.asked_for() == [("B", "o1"), ("C", "o1"), ("C", "o2")]


def test_a_person_makes_holds_releases_and_cancels(stage: Stage) -> None:
    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        order = {"product": "B", "obs_id": "o1"}
        unknown = httpx.post(f"{url}/processings", json={"product": "Z", "obs_id": "o1"})
        assert unknown.status_code == 404
        assert unknown.json()["known"] == ["B"]
        lacking = httpx.post(f"{url}/processings", json=order)
        assert lacking.status_code == 409
        assert lacking.json()["lacks"] == ["A"]
        assert httpx.post(f"{url}/hold").json() == {"held": ["*"]}
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "held"})
        assert stage.pipeline.requests == []
        assert httpx.delete(f"{url}/hold").json() == {"held": []}
        eventually_in(url, {"B/o1": "succeeded"})
        stage.pipeline.outcomes["B"].append("running")
        made = httpx.post(f"{url}/processings", json=order)
        assert made.status_code == 202
        path = f"/processings/{made.json()['id']}"
        eventually_sync(lambda: get(url, path)["state"] == "running")
        assert httpx.delete(f"{url}{path}").json()["state"] == "cancelled"
    assert stage.pipeline.cancelled == [made.json()["id"]]


def test_observations_show_what_is_there_and_what_is_lacking(stage: Stage) -> None:
    with serving(open_conductor, stage.settings(diamond())) as url:
        stage.archive("B", "o1")
        eventually_sync(lambda: get(url, "/observations")["items"])
        detail = get(url, "/observations/o1")
        shown = {product["product"]: product["state"] for product in detail["products"]}
        assert shown == {"B": "available", "C": "missing", "D": "missing"}
        assert httpx.get(f"{url}/observations/o9").status_code == 404


def test_a_provider_that_the_graph_does_not_have_is_refused(stage: Stage) -> None:
    settings = stage.settings(diamond(), provider_urls={"makre": "http://127.0.0.1:1"})
    with (
        pytest.raises(ConfigurationError, match=r"makre: the graph has no such provider"),
        serving(open_conductor, settings),
    ):
        pytest.fail("it was served")


def test_numbers_beyond_any_database_are_put_aside(stage: Stage) -> None:
    with serving(open_conductor, stage.settings(graph_of(["A"], ONE))) as url:
        huge = json.dumps({"product": "A", "obs_id": "o1", "version": 10**30}).encode()
        stage.publish("data.vhf", huge, b'{"product": "A", "obs_id": "o2"}')
        eventually_in(url, {"B/o2": "succeeded"})
