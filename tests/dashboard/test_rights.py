"""What a token may not do: refused in one line, and not offered by the page."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.conductor.stage import ANSWER_S
from tests.dashboard.conftest import Watched, playing
from tests.dashboard.page import opened
from tests.support.servers import NatsServer
from tests.support.waiting import eventually_sync

TOKEN = "a-token-of-enough-length"  # noqa: S105  of a test's own
ANAS = "the-token-of-ana-alone"
VERSION = "/api/sdb/products/A/o1/versions/1"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """An orchestra with a token, and an operator, ana, with her own; A and B of o1 are made."""
    folder = tmp_path_factory.mktemp("guarded")
    file = folder / "operators.yaml"
    file.write_text(f"ana: {ANAS}\n")
    file.chmod(0o600)
    nats = NatsServer(folder / "nats")
    nats.start()
    with (
        playing(folder, nats, {"operator_tokens": file}, token=TOKEN) as watched,
        signed_in(watched, TOKEN) as browser,
    ):
        watched.stage.archive("A", "o1")

        def is_made() -> bool:
            found = browser.get("/api/conductor/processings").json()["items"]
            return [each["state"] for each in found] == ["succeeded"] * 2

        eventually_sync(is_made, ANSWER_S)
        yield watched
    nats.stop()


@contextmanager
def signed_in(watched: Watched, token: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=watched.url, timeout=ANSWER_S) as browser:
        browser.post("/session", json={"token": token}).raise_for_status()
        yield browser


def test_the_token_of_the_orchestra_may_do_everything(guarded: Watched) -> None:
    with signed_in(guarded, TOKEN) as browser:
        assert browser.get("/session").json()["may"] == ["order", "withdraw"]


def test_nobody_may_do_anything_before_signing_in(guarded: Watched) -> None:
    assert httpx.get(f"{guarded.url}/session").json()["may"] == []


def test_an_operators_own_token_reads_what_only_the_token_of_the_orchestra_opens(
    guarded: Watched,
) -> None:
    with signed_in(guarded, ANAS) as browser:
        assert browser.get("/session").json()["may"] == ["order"]
        assert browser.get("/api/sdb/products").json()["items"]
        assert browser.get("/api/conductor/summary").status_code == HTTPStatus.OK


def test_an_operators_own_token_changes_nothing_at_the_sdb(guarded: Watched) -> None:
    with signed_in(guarded, ANAS) as browser:
        refused = browser.delete(VERSION, params={"reason": "wrong"})
        assert refused.status_code == HTTPStatus.FORBIDDEN
        assert "operator's own token" in refused.json()["detail"]
        versions = browser.get("/api/sdb/products?product=A").json()["items"]
        assert [each["withdrawn"] for each in versions] == [None]


def sign_in(page: Page, url: str, token: str) -> None:
    page.goto(url)
    page.get_by_label(re.compile("^Token")).fill(token)
    page.get_by_role("button", name="Sign in").click()


def test_withdrawing_is_offered_to_the_token_of_the_orchestra_alone(guarded: Watched) -> None:
    address = f"{guarded.url}/products/A/o1"
    with opened() as page:
        sign_in(page, address, ANAS)
        expect(page.get_by_role("heading", name="Version 1", exact=True)).to_be_visible()
        expect(page.get_by_role("button", name="Withdraw")).to_have_count(0)
        page.goto(f"{guarded.url}/observations/o1")
        expect(page.get_by_role("button", name="Make again").first).to_be_visible()
        page.context.clear_cookies()
        sign_in(page, address, TOKEN)
        expect(page.get_by_role("button", name="Withdraw")).to_be_visible()


def test_who_may_only_look_is_offered_no_order_on_any_page(guarded: Watched) -> None:
    with opened() as page:
        looking = {"needed": True, "signed_in": True, "may": []}
        sign_in(page, guarded.url, TOKEN)
        expect(page.get_by_role("heading", name="Observations")).to_be_visible()
        page.route("**/session", lambda route: route.fulfill(json=looking))
        for path, heading in (
            ("/observations/o1", "Products"),
            ("/products/A/o1", "Version 1"),
            ("/holds", "Holds"),
            ("/campaigns?plan=new", "Campaigns"),
            ("/providers", "maker"),
        ):
            page.goto(guarded.url + path)
            expect(page.get_by_role("heading", name=heading, exact=True).first).to_be_visible()
            expect(page.get_by_text("Asking…")).to_have_count(0)
            order = re.compile("^(Make again|Withdraw|Hold|Plan)")
            expect(page.get_by_role("button", name=order)).to_have_count(0)


def test_a_refused_order_says_so_in_one_line_and_leaves_the_question_open(
    guarded: Watched,
) -> None:
    with opened() as page:
        address = f"{guarded.url}/products/A/o1"
        sign_in(page, address, ANAS)
        expect(page.get_by_role("heading", name="Version 1", exact=True)).to_be_visible()
        # What the page offers may be of a moment ago: the service has the last word.
        everything = {"needed": True, "signed_in": True, "may": ["order", "withdraw"]}
        page.route("**/session", lambda route: route.fulfill(json=everything))
        page.goto(address)
        page.get_by_role("button", name="Withdraw").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label(re.compile("^Reason")).fill("wrong")
        dialog.get_by_role("button", name="Withdraw").click()
        line = "an operator's own token changes nothing at the sdb (accepted: the orchestra's)"
        expect(dialog.get_by_role("alert")).to_have_text(line)
