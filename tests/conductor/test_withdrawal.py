"""What the conductor does once a version was withdrawn in the sdb."""

import asyncio
import json

import httpx
import nats
import pytest

from batuta.cli.app import run
from batuta.conductor.service import open_conductor
from batuta.sdb import SdbClient
from tests.conductor.graphs import graph_of
from tests.conductor.stage import ANSWER_S, Stage, eventually_in, get
from tests.conductor.test_reconciliation import CHAIN, MADE, differences, recorded
from tests.support.services import serving
from tests.support.waiting import eventually_sync

NOTHING_MADE = graph_of(["A", "X"], {"B": {"m_input": ["A", "X"]}})
TWO_ATTEMPTS = graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 2}})


def withdraw(stage: Stage, product: str, version: int, reason: str = "noise") -> None:
    with SdbClient(stage.sdb_url) as sdb:
        sdb.withdraw(product, "o1", version, reason=reason)


def agrees(url: str) -> bool:
    return differences(httpx.get(f"{url}/reconciliation", timeout=60)) == []


def test_it_is_not_available_any_more_and_what_was_made_from_it_stays(stage: Stage) -> None:
    with serving(open_conductor, stage.settings(CHAIN)) as url:
        stage.archive("A", "o1")
        eventually_in(url, MADE)
        withdraw(stage, "A", 1)
        eventually_sync(lambda: recorded(url, "o1") == {"B": 1, "C": 1})
        assert agrees(url)
        eventually_in(url, MADE)
        answer = httpx.post(f"{url}/processings", json={"product": "B", "obs_id": "o1"})
        assert (answer.status_code, answer.json()["lacks"]) == (409, ["A"])
    assert stage.asked_for() == [("B", "o1"), ("C", "o1")]


def test_the_version_before_it_counts_again(stage: Stage) -> None:
    with serving(open_conductor, stage.settings(NOTHING_MADE)) as url:
        for _ in range(2):
            stage.archive("A", "o1")
        eventually_sync(lambda: recorded(url, "o1") == {"A": 2})
        withdraw(stage, "A", 2)
        eventually_sync(lambda: recorded(url, "o1") == {"A": 1})
        withdraw(stage, "A", 1)
        eventually_sync(
            lambda: httpx.get(f"{url}/observations/o1", timeout=ANSWER_S).status_code == 404
        )
        assert agrees(url)


def test_what_was_withdrawn_is_made_again_once_corrected_input_arrives_and_not_before(
    stage: Stage,
) -> None:
    with serving(open_conductor, stage.settings(CHAIN)) as url:
        stage.archive("A", "o1")
        eventually_in(url, MADE)
        withdraw(stage, "C", 1)
        withdraw(stage, "B", 1, "wrong gain")
        eventually_in(url, {"B/o1": "failed", "C/o1": "failed"})
        assert "version 1 of B was withdrawn: wrong gain" in get(url, "/why/B/o1")["answer"]
        assert agrees(url)
        withdraw(stage, "A", 1)
        eventually_sync(
            lambda: httpx.get(f"{url}/observations/o1", timeout=ANSWER_S).json()["available"] == 0
        )
        assert len(stage.asked_for()) == 2
        stage.archive("A", "o1")
        eventually_sync(lambda: recorded(url, "o1") == {"A": 2, "B": 2, "C": 2})
        assert agrees(url)


def test_a_retry_makes_it_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(open_conductor, stage.settings(TWO_ATTEMPTS)) as url:
        monkeypatch.setenv("BATUTA_CONDUCTOR_URL", url)
        stage.archive("A", "o1")
        eventually_in(url, {"B/o1": "succeeded"})
        withdraw(stage, "B", 1)
        eventually_in(url, {"B/o1": "failed"})
        assert run(["retry", "B", "o1"]) == 0
        eventually_sync(lambda: recorded(url, "o1") == {"A": 1, "B": 2})
        assert agrees(url)


def test_what_was_withdrawn_while_the_conductor_was_down_is_not_used(stage: Stage) -> None:
    settings = stage.settings(CHAIN)
    with serving(open_conductor, settings) as url:
        stage.archive("A", "o1")
        eventually_in(url, MADE)
    withdraw(stage, "C", 1)
    stage.archive("A", "o2")
    with SdbClient(stage.sdb_url) as sdb:
        sdb.withdraw("A", "o2", 1)
    with serving(open_conductor, settings) as url:
        eventually_in(url, {"B/o1": "succeeded", "C/o1": "failed"})
        assert recorded(url, "o1") == {"A": 1, "B": 1}
        assert agrees(url)
        assert httpx.get(f"{url}/observations/o2", timeout=ANSWER_S).status_code == 404
        assert "batuta_malformed_total 0.0" in httpx.get(f"{url}/metrics").text


def test_reconcile_tells_and_mends_a_withdrawal_that_was_not_heard(stage: Stage) -> None:
    settings = stage.settings(CHAIN)
    with serving(open_conductor, settings) as url:
        stage.archive("A", "o1")
        eventually_in(url, MADE)
    withdraw(stage, "C", 1)
    eventually_sync(lambda: "outbox_length 0.0" in httpx.get(f"{stage.sdb_url}/metrics").text)
    stage.nats.stop()
    stage.nats.forget()
    stage.nats.start()
    with serving(open_conductor, settings) as url:
        eventually_sync(lambda: get(url, "/health")["status"] == "ok")
        found = differences(httpx.get(f"{url}/reconciliation", timeout=60))
        assert set(found) == {("withdrawn", "C", 1, None)}
        httpx.post(f"{url}/reconciliation", timeout=60).raise_for_status()
        assert recorded(url, "o1") == {"A": 1, "B": 1}
        eventually_in(url, {"B/o1": "succeeded", "C/o1": "failed"})
        assert agrees(url)
    assert stage.asked_for() == [("B", "o1"), ("C", "o1")]


@pytest.mark.parametrize(
    ("subject", "reason"),
    [("data.vhf", "only the sdb withdraws"), ("data.sdb", "has not withdrawn version 1")],
)
def test_a_withdrawal_is_believed_of_the_sdb_only_and_if_it_says_so(
    stage: Stage, subject: str, reason: str
) -> None:
    event = {
        "specversion": "1.0",
        "id": "forged",
        "source": "/somebody",
        "type": "batuta.data.withdrawn",
        "data": {
            "product": "A",
            "obs_id": "o1",
            "version": 1,
            "withdrawn": "2026-11-29T00:00:00Z",
        },
    }

    async def first_dead_letter() -> str:
        client = await nats.connect(stage.nats.url)
        try:
            letters = await client.jetstream().subscribe("dead.data")
            headers = (await letters.next_msg(10)).headers or {}
            return headers["Batuta-Reason"]
        finally:
            await client.close()

    with serving(open_conductor, stage.settings(NOTHING_MADE)) as url:
        stage.archive("A", "o1")
        eventually_sync(lambda: recorded(url, "o1") == {"A": 1})
        stage.publish(subject, json.dumps(event).encode())
        assert reason in asyncio.run(first_dead_letter())
        assert recorded(url, "o1") == {"A": 1}


def test_what_is_made_from_it_is_stopped_and_a_late_result_is_withdrawn_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(open_conductor, stage.settings(CHAIN)) as url:
        stage.pipeline.outcomes["B"].append("running")
        stage.archive("A", "o1")
        eventually_in(url, {"B/o1": "running"})
        withdraw(stage, "A", 1)
        eventually_in(url, {"B/o1": "cancelled"})
        (late,) = eventually_sync(lambda: stage.pipeline.cancelled)
        # It has imported its product before it was killed.
        stage.pipeline.archive(stage.pipeline.processings[late])
        path = "/products?product=B&withdrawn=true"
        (refused,) = eventually_sync(lambda: get(stage.sdb_url, path)["items"])
        reason = "made from version 1 of A, which was withdrawn meanwhile"
        assert (refused["version"], refused["withdrawn_reason"]) == (1, reason)
        heard = eventually_sync(lambda: get(url, "/events?product=B")["items"])
        assert (heard[-1]["outcome"], heard[-1]["reason"]) == ("ignored", reason)
        stage.archive("A", "o1", content=b"good")
        eventually_sync(lambda: recorded(url, "o1") == {"A": 2, "B": 2, "C": 1})
        assert agrees(url)
        # The same bytes once more.
        stage.archive("A", "o1", content=b"good")
        eventually_sync(lambda: get(url, "/observations/o1")["products"][0]["version"] == 3)
        assert get(url, "/events?product=A")["items"][0]["reason"] == (
            "version 3 of A has the bytes of version 2"
        )
        stage.archive("A", "o1", content=b"better")
        eventually_sync(lambda: get(url, "/summary")["stale"] == 2)
        assert "batuta_stale_products 2.0" in httpx.get(f"{url}/metrics").text
        monkeypatch.setenv("BATUTA_CONDUCTOR_URL", url)
        assert run(["status", "--stale"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "o1 B stale since" in shown
        assert "made from A v2, and v4 is available" in shown
        assert run(["make", "--stale", "--product", "B", "--yes"]) == 0
        eventually_sync(lambda: recorded(url, "o1") == {"A": 4, "B": 3, "C": 1})
