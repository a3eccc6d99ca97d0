"""Each order of each page: offered to who may give it, and to nobody else."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from playwright.sync_api import Page, expect

from batuta.cli.conductor_client import ConductorClient
from tests.conductor.stage import ANSWER_S, get
from tests.dashboard.conftest import Watched, playing
from tests.dashboard.page import opened
from tests.dashboard.test_buttons import (
    GRAPH,
    apart,
    eventually_is,
    late_result,
    listed,
    newest,
)
from tests.support.servers import NatsServer
from tests.support.waiting import eventually_sync


@pytest.fixture(scope="module")
def orchestra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """An orchestra in which there is something to order on every page."""
    folder = tmp_path_factory.mktemp("orchestra")
    nats = NatsServer(folder / "nats")
    nats.start()
    with playing(folder, nats, {"graph": GRAPH, "retry_wait_s": 600}) as watched:
        prepare(watched)
        yield watched
    nats.stop()


def prepare(orchestra: Watched) -> None:
    stage, conductor_url = orchestra.stage, orchestra.conductor_url
    with ConductorClient(conductor_url) as conductor:
        stage.archive("A", "made")
        eventually_is(orchestra, B_made="succeeded", C_made="succeeded")
        conductor.plan_campaign({"products": ["B"], "obs_ids": ["made"]})
        hold = {"product": "C"}
        httpx.post(f"{conductor_url}/holds", json=hold, timeout=ANSWER_S).raise_for_status()
        stage.archive("A", "held")
        eventually_is(orchestra, B_held="succeeded", C_held="held")
        started = conductor.plan_campaign({"products": ["C"], "obs_ids": ["made"]})["number"]
        conductor.order_campaign(started, "start")
        eventually_is(orchestra, C_made="held")
    stage.pipeline.outcomes["B"].append("failed")
    stage.archive("A", "failed")
    eventually_is(orchestra, B_failed="failed")
    stage.pipeline.outcomes["L"].append("failed")
    stage.archive("R", "again")
    eventually_is(orchestra, L_again="retrying")
    late_result(orchestra, "late")
    stage.archive("P", "asked")
    eventually_is(orchestra, G_asked="unapproved")
    apart(lambda: stage.publish("data.vhf", b"no event"))
    eventually_sync(lambda: get(conductor_url, "/dead")["total"] == 1, ANSWER_S)
    for number in range(6):
        stage.archive("Q", f"q{number}")
    eventually_sync(lambda: "open" in circuits(orchestra), ANSWER_S)
    document = GRAPH.as_document()
    body = {"graph": document | {"inputs": [*document["inputs"], "Z"]}}  # type: ignore[misc]
    url = f"{conductor_url}/graph/versions"
    httpx.post(url, json=body, timeout=ANSWER_S).raise_for_status()
    eventually_sync(lambda: len(listed(orchestra, "/approvals")) == 2, ANSWER_S)


def circuits(orchestra: Watched) -> set[str]:
    return {
        instance["circuit"]
        for each in listed(orchestra, "/providers")
        for instance in each["instances"]
    }


@dataclass(frozen=True)
class Offer:
    """The orders of a page, and what is there whoever looks."""

    path: str
    shown: str
    orders: tuple[str, ...]


def offers(orchestra: Watched) -> list[Offer]:
    [letter] = listed(orchestra, "/dead")
    held, failed = (newest(orchestra, *which)["id"] for which in (("C", "held"), ("B", "failed")))
    return [
        Offer("/observations/made", "Product graph", ("Make again",)),
        Offer("/observations/again", "Product graph", ("Retry", "Reprioritize", "Cancel")),
        Offer("/observations/held", "Product graph", ("Reprioritize observation held",)),
        Offer(f"/processings/{held}", "maker", ("Reprioritize", "Cancel")),
        Offer(f"/processings/{failed}", "What went wrong", ("Retry",)),
        Offer("/products/A/made", "Version 1", ("Withdraw",)),
        Offer(
            "/inbox",
            "Late results of what was given up",
            (
                "Retry all of maker: scripted",
                "Cancel all of maker: scripted",
                "Hold provider maker",
                "Adopt L of late",
                "Refuse L of late",
            ),
        ),
        Offer(
            "/approvals",
            "G of asked",
            ("Approve G of asked", "Refuse G of asked", "Approve all 0", "Refuse all 0"),
        ),
        Offer("/holds", "product C", ("Hold everything", "Release product C")),
        Offer(
            "/campaigns?plan=new",
            "B of 1 observations",
            ("Plan", "Start campaign 1", "Cancel campaign 2"),
        ),
        Offer("/campaigns/1", "Plan: 1 processing", ("Start campaign 1", "Cancel campaign 1")),
        Offer(
            "/campaigns/2", "Plan: 1 processing", ("Reprioritize campaign 2", "Pause campaign 2")
        ),
        Offer("/dead", "no event", (f"Send dead letter {letter['sequence']} again",)),
        Offer("/providers", "absent", ("Hold provider absent", "Close circuit of absent")),
        Offer("/graph", "Product graph, version 2", ("Go back to version 1",)),
    ]


def look(page: Page, url: str, offer: Offer) -> None:
    """Open a page, and wait until it knows who looks and has all that it asks for."""
    with page.expect_response("**/session"):
        page.goto(url + offer.path)
    expect(page.locator("main").get_by_text(offer.shown).first).to_be_visible()
    expect(page.get_by_text("Asking…")).to_have_count(0)


@pytest.mark.timeout(300)  # each page, with and without the right
def test_orders_are_offered_to_who_may_give_them_and_to_nobody_else(orchestra: Watched) -> None:
    found = offers(orchestra)
    with opened() as page:
        for offer in found:
            look(page, orchestra.url, offer)
            for name in offer.orders:
                button = page.get_by_role("button", name=name, exact=True).first
                expect(button, f"{name} of {offer.path}").to_be_visible()
        looking = {"needed": True, "signed_in": True, "may": ["read"]}
        page.route("**/session", lambda route: route.fulfill(json=looking))
        offered = []
        for offer in found:
            look(page, orchestra.url, offer)
            for name in offer.orders:
                number = page.get_by_role("button", name=name, exact=True).count()
                offered += [f"{name} of {offer.path}"] * number
        assert offered == []
