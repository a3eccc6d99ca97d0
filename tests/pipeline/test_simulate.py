"""The simulated pipeline: every provider of a graph, in one service."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from batuta.errors import ConfigurationError
from batuta.messaging import Bus, NatsConfig, connect, decode_activity, subjects
from batuta.pipeline.simulate import SimulateSettings
from batuta.pipeline.simulate.service import open_simulate
from batuta.sdb import SdbClient
from tests.support.servers import NatsServer
from tests.support.services import ServiceProcess, serving
from tests.support.waiting import eventually, eventually_sync

GRAPH = {
    "inputs": ["ALERT"],
    "products": {
        "LC": {
            "m_input": ["ALERT"],
            "o_input": [],
            "provider": "timing_pipeline",
            "url": "http://127.0.0.1:5000/pipeline",
        },
        "QPO": {
            "m_input": ["LC"],
            "o_input": [],
            "provider": "qpo_pipeline",
            "url": "http://127.0.0.1:5000/pipeline",
        },
    },
}


@pytest.fixture
def settings(tmp_path: Path, shared_nats: NatsServer, sdb_url: str) -> SimulateSettings:
    """A simulation of `GRAPH` that takes no time."""
    graph = tmp_path / "graph.json"
    graph.write_text(json.dumps(GRAPH))
    return SimulateSettings(
        port=0,
        graph=graph,
        nats_url=shared_nats.url,
        sdb_url=sdb_url,
        data_dir=tmp_path / "simulate",
        wait_min_s=0.0,
        wait_max_s=0.05,
        failure=0.0,
    )


@pytest.fixture
def http(settings: SimulateSettings) -> Iterator[httpx.Client]:
    """HTTP to a simulation that never fails."""
    with (
        serving(open_simulate, settings) as url,
        httpx.Client(base_url=f"{url}/pipeline", timeout=30) as client,
    ):
        yield client


def states(http: httpx.Client) -> Counter[str]:
    return Counter(each["state"] for each in _all(http))


def _all(http: httpx.Client) -> Iterator[dict[str, str]]:
    cursor: dict[str, str] = {}
    while True:
        page = http.get("/processing", params={"limit": "1000", **cursor}).json()
        yield from page["items"]
        if page["next"] is None:
            return
        cursor = {"cursor": page["next"]}


def stored_of(sdb: SdbClient, obs_id: str) -> list[tuple[str, int]]:
    """The light curves of observations whose obs_id starts with `obs_id`, and their versions."""
    found = ((each.obs_id, each.version) for each in sdb.list("LC"))
    return sorted(each for each in found if each[0].startswith(obs_id))


def test_any_product_of_the_graph_is_archived(
    http: httpx.Client, sdb: SdbClient, obs_id: str
) -> None:
    for product in ["LC", "QPO"]:
        response = http.post("/processing", json={"product": product, "obs_id": obs_id})
        assert response.status_code == 202
    eventually_sync(lambda: states(http) == {"succeeded": 2})
    assert {(each.product, each.provider) for each in sdb.list(obs_id=obs_id)} == {
        ("LC", "timing_pipeline"),
        ("QPO", "qpo_pipeline"),
    }
    assert http.post("/processing", json={"product": "XX", "obs_id": "sb1"}).status_code == 404


def test_a_hundred_at_once_are_archived_once_each(
    http: httpx.Client, sdb: SdbClient, obs_id: str
) -> None:
    names = sorted(f"{obs_id}-{number}" for number in range(100))
    for name in names:
        body = {"product": "LC", "obs_id": name, "processing_id": f"p-{name}"}
        assert http.post("/processing", json=body).status_code == 202
    eventually_sync(lambda: states(http) == {"succeeded": 100}, timeout_s=60)
    assert stored_of(sdb, obs_id) == [(name, 1) for name in names]


def test_failures_come_as_often_as_asked(
    settings: SimulateSettings, sdb: SdbClient, obs_id: str
) -> None:
    half = settings.model_copy(update={"failure": 0.5, "seed": 1})
    with (
        serving(open_simulate, half) as url,
        httpx.Client(base_url=f"{url}/pipeline", timeout=30) as http,
    ):
        for number in range(100):
            http.post("/processing", json={"product": "LC", "obs_id": f"{obs_id}-{number}"})
        eventually_sync(lambda: states(http).total() == 100 and set(states(http)) <= ENDED)
        failed = [each for each in _all(http) if each["state"] == "failed"]
    assert 25 < len(failed) < 75
    assert {each["error"] for each in failed} == {"simulated failure (probability 0.5)"}
    assert len(stored_of(sdb, obs_id)) == 100 - len(failed)


ENDED = {"succeeded", "failed"}


def test_a_killed_simulation_resumes(
    settings: SimulateSettings, sdb: SdbClient, obs_id: str
) -> None:
    slow = settings.model_copy(update={"wait_max_s": 1.0})
    service = ServiceProcess("batuta.pipeline.simulate:run_simulate", slow)
    url = service.start()
    for number in range(50):
        body = {"product": "LC", "obs_id": f"{obs_id}-{number}"}
        httpx.post(f"{url}/pipeline/processing", json=body).raise_for_status()
    eventually_sync(lambda: stored_of(sdb, obs_id))
    service.kill()
    url = service.start()
    try:
        with httpx.Client(base_url=f"{url}/pipeline") as http:
            eventually_sync(lambda: states(http) == {"succeeded": 50})
    finally:
        service.kill()
    assert Counter(version for _, version in stored_of(sdb, obs_id)) == {1: 50}


@pytest.fixture
async def listener(shared_nats: NatsServer) -> AsyncIterator[Bus]:
    """A connection to the NATS of the services."""
    async with connect(NatsConfig(url=shared_nats.url), "test") as bus:
        yield bus


async def test_each_provider_has_an_activity_of_its_own(http: httpx.Client, listener: Bus) -> None:
    for product, provider in [("LC", "timing_pipeline"), ("QPO", "qpo_pipeline")]:
        body = {"product": product, "obs_id": "sb1"}
        record = (await asyncio.to_thread(http.post, "/processing", json=body)).json()
        assert record["provider"] == provider
        await eventually(lambda: _is_published(listener, provider, record["id"]))  # noqa: B023  awaited here


def test_what_runs_elsewhere_is_not_simulated_and_not_reported_for(
    settings: SimulateSettings,
) -> None:
    other = settings.model_copy(update={"elsewhere": ["qpo_pipeline"]})
    with (
        serving(open_simulate, other) as url,
        httpx.Client(base_url=f"{url}/pipeline", timeout=30) as http,
    ):
        asked = {
            product: http.post("/processing", json={"product": product, "obs_id": "sb1"})
            for product in ("LC", "QPO")
        }
    assert {product: answer.status_code for product, answer in asked.items()} == {
        "LC": 202,
        "QPO": 404,
    }


def test_a_product_of_another_graph_is_refused_with_the_graph_that_it_was_started_with(
    http: httpx.Client, settings: SimulateSettings
) -> None:
    answer = http.post("/processing", json={"product": "NEW", "obs_id": "sb1"})
    assert answer.status_code == 404
    assert answer.json()["detail"] == (
        "product 'NEW': not offered here (known: LC, QPO); simulated is what "
        f"{settings.graph} had at the start: if the graph in force has others, restart batuta "
        "simulate with it"
    )


def test_a_provider_elsewhere_that_the_graph_does_not_have_is_refused(
    settings: SimulateSettings,
) -> None:
    wrong = settings.model_copy(update={"elsewhere": ["qpo_pipelin"]})
    told = r"elsewhere: provider 'qpo_pipelin' is not in the graph \(did you mean 'qpo_pipeline'"
    with pytest.raises(ConfigurationError, match=told), serving(open_simulate, wrong):
        pass


async def _is_published(bus: Bus, provider: str, processing_id: str) -> bool:
    subject = subjects.activity_subject(provider)
    last = await bus.jetstream.get_last_msg(subjects.ACTIVITY_STREAM, subject)
    activity = decode_activity(last.data or b"")
    assert activity.service.name == provider
    published = activity.processing
    return published is not None and (published.id, published.state) == (processing_id, "succeeded")


def test_waits_out_of_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wait_min_s 3 is more than wait_max_s 2"):
        SimulateSettings(graph=tmp_path / "graph.json", wait_min_s=3, wait_max_s=2)


def test_a_wrong_graph_is_refused(settings: SimulateSettings) -> None:
    settings.graph.write_text("{}")
    with pytest.raises(ConfigurationError), serving(open_simulate, settings):
        pass
