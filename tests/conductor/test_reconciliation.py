"""The conductor's records against the sdb: differences are shown, and mended."""

import asyncio
from typing import Any

import httpx
import pytest

from batuta.cli.app import run as run_command
from batuta.conductor import reconciliation
from batuta.conductor.service import open_conductor
from batuta.graph import Graph
from tests.conductor.graphs import diamond, graph_of
from tests.conductor.stage import Stage, eventually_in, get
from tests.support.services import serving
from tests.support.waiting import eventually_sync

CHAIN = graph_of(["A"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["B"]}})
MADE = {"B/o1": "succeeded", "C/o1": "succeeded"}


def recorded(url: str, obs_id: str) -> dict[str, int | None]:
    """Versions that the conductor takes for available, by product."""
    answer = httpx.get(f"{url}/observations/{obs_id}")
    products = answer.json()["products"] if answer.is_success else []
    return {each["product"]: each["version"] for each in products if each["state"] == "available"}


def differences(answer: httpx.Response) -> list[tuple[Any, ...]]:
    items = answer.raise_for_status().json()["items"]
    return [(each["kind"], each["product"], each["recorded"], each["archived"]) for each in items]


def all_orders(url: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = get(url, "/orders")["items"]
    return items


def test_where_both_agree_there_is_nothing_to_mend(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(open_conductor, stage.settings(diamond())) as url:
        stage.archive("A", "o1")
        eventually_in(url, dict.fromkeys(("B/o1", "C/o1", "D/o1"), "succeeded"))
        assert get(url, "/reconciliation")["items"] == []
        assert run_command(["reconcile", "--conductor-url", url]) == 0
    assert capsys.readouterr().out == "the conductor and the sdb agree\n"


def test_what_a_restored_sdb_has_lost_is_shown_then_made_again(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(open_conductor, stage.settings(CHAIN)) as url:
        stage.archive("A", "o1")
        eventually_in(url, MADE)
        stage.lose("product != 'A'")
        expected = [
            ("not archived", "B", 1, None),
            ("not archived", "C", 1, None),
            ("not made", "B", None, None),
            ("not made", "C", None, None),
        ]
        assert sorted(differences(httpx.get(f"{url}/reconciliation"))) == expected
        assert run_command(["reconcile", "--conductor-url", url]) == 0
        assert "mend them with batuta reconcile --apply" in capsys.readouterr().out
        assert get(url, "/orders")["items"] == []
        ordered = ["reconcile", "--apply", "--operator=ana", "--conductor-url", url]
        assert run_command(ordered) == 0
        (order,) = get(url, "/orders")["items"]
        assert (order["command"], order["by"]) == ("reconcile --apply", "operator ana (claimed)")
        # What C was made from is mended first, and C is claimed again with that.
        assert order["changed"] >= 3
        eventually_sync(lambda: recorded(url, "o1") == {"A": 1, "B": 1, "C": 1})
        assert get(url, "/reconciliation")["items"] == []
        # What has nothing to mend is no order.
        assert run_command(ordered) == 0
        assert len(get(url, "/orders")["items"]) == 1
        assert stage.archived() == {("A", "o1", 1), ("B", "o1", 1), ("C", "o1", 1)}
    assert sorted(stage.asked_for()) == [("B", "o1"), ("B", "o1"), ("C", "o1"), ("C", "o1")]


def test_a_version_that_is_used_again_after_a_restore_is_made_from(stage: Stage) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"], "on_update": "reprocess"}})
    with serving(open_conductor, stage.settings(graph)) as url:
        stage.archive("A", "o1")
        eventually_in(url, {"B/o1": "succeeded"})
        stage.archive("A", "o1")
        eventually_sync(lambda: len(stage.asked_for()) == 2)
        eventually_sync(lambda: recorded(url, "o1") == {"A": 2, "B": 2})
        stage.lose("version > 1")
        httpx.post(f"{url}/reconciliation").raise_for_status()
        eventually_sync(lambda: recorded(url, "o1") == {"A": 1, "B": 1})
        stage.archive("A", "o1")
        eventually_sync(lambda: recorded(url, "o1") == {"A": 2, "B": 2})
        assert get(url, "/reconciliation")["items"] == []


def test_what_was_never_announced_is_recorded_and_made_from(stage: Stage) -> None:
    settings = stage.settings(CHAIN)
    with serving(open_conductor, settings) as url:
        stage.archive("A", "o1")
        eventually_in(url, MADE)
    stage.archive("A", "o2")
    eventually_sync(lambda: "outbox_length 0.0" in httpx.get(f"{stage.sdb_url}/metrics").text)
    stage.nats.stop()
    stage.nats.forget()
    stage.nats.start()
    with serving(open_conductor, settings) as url:
        eventually_sync(lambda: get(url, "/health")["status"] == "ok")
        assert differences(httpx.get(f"{url}/reconciliation")) == [("not recorded", "A", None, 1)]
        httpx.post(f"{url}/reconciliation").raise_for_status()
        eventually_sync(lambda: recorded(url, "o2") == {"A": 1, "B": 1, "C": 1})


def test_what_is_announced_meanwhile_is_no_difference(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(open_conductor, stage.settings(graph_of(["A"], {"B": {"m_input": ["A"]}}))) as url:

        def announce() -> None:
            stage.nats.start()
            eventually_sync(lambda: recorded(url, "o1") == {"A": 1, "B": 1})

        async def arrive() -> None:
            await asyncio.to_thread(announce)

        monkeypatch.setattr(reconciliation, "wait_for_announcements", arrive)
        stage.nats.stop()
        stage.archive("A", "o1")
        assert differences(httpx.get(f"{url}/reconciliation", timeout=60)) == []


@pytest.mark.parametrize("archived", [False, True], ids=["nothing archived", "an older one"])
def test_an_announcement_that_was_wrong_can_be_forgotten(
    stage: Stage, capsys: pytest.CaptureFixture[str], *, archived: bool
) -> None:
    graph: Graph = graph_of(["A", "X"], {"B": {"m_input": ["A", "X"]}})
    with serving(open_conductor, stage.settings(graph)) as url:
        stage.publish("data.vhf", b'{"product": "A", "obs_id": "o1", "version": 2147483647}')
        eventually_sync(lambda: httpx.get(f"{url}/observations/o1").is_success)
        if archived:
            # What the sdb holds counts, whatever others announced.
            stage.archive("A", "o1")
            eventually_sync(lambda: recorded(url, "o1") == {"A": 1})
        code = run_command(["forget", "A", "o1", "--operator=ana", "--conductor-url", url])
        orders = [(each["command"], each["by"], each["about"]) for each in all_orders(url)]
        printed = capsys.readouterr()
        if archived:
            assert code == 1
            assert "the sdb holds what is recorded" in printed.err
            assert recorded(url, "o1") == {"A": 1}
            assert orders == []
        else:
            assert code == 0
            about = {"product": "A", "obs_id": "o1", "version": 2147483647}
            assert orders == [("forget", "operator ana (claimed)", about)]
            assert "v2147483647 forgotten; not available any more" in printed.out
            assert httpx.get(f"{url}/observations/o1").status_code == 404
            again = httpx.delete(f"{url}/observations/o1/products/A")
            assert again.status_code == 404


def test_what_was_claimed_from_a_forgotten_announcement_is_claimed_again_from_the_real_one(
    stage: Stage,
) -> None:
    stage.pipeline.outcomes["B"].append("failed")
    graph = graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}})
    with serving(open_conductor, stage.settings(graph)) as url:
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "failed"})
        httpx.delete(f"{url}/observations/o1/products/A").raise_for_status()
        eventually_in(url, {})
        stage.archive("A", "o1")
        eventually_in(url, {"B/o1": "succeeded"})


def test_an_sdb_that_does_not_answer_is_named_and_nothing_changes(stage: Stage) -> None:
    settings = stage.settings(CHAIN)
    with serving(open_conductor, settings) as url:
        stage.archive("A", "o1")
        eventually_in(url, MADE)
    away = settings.model_copy(update={"sdb_url": "http://127.0.0.1:1"})
    with serving(open_conductor, away) as url:
        answer = httpx.post(f"{url}/reconciliation")
        assert answer.status_code == 502
        assert (
            "sdb at http://127.0.0.1:1/products/lookup cannot be reached" in answer.json()["detail"]
        )
        assert recorded(url, "o1") == {"A": 1, "B": 1, "C": 1}
