"""What a token may not do: refused in one line, and not offered by the page."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from batuta.service.scopes import Scope
from batuta.service.token_file import add_token, revoke_tokens
from tests.conductor.stage import ANSWER_S
from tests.dashboard.conftest import Watched, playing
from tests.dashboard.page import opened
from tests.support.servers import NatsServer
from tests.support.waiting import eventually_sync

TOKEN = "a-token-of-enough-length"  # noqa: S105  of a test's own
ALL = ["read", "import", "operate", "administer"]
VERSION = "/api/sdb/products/A/o1/versions/1"


@dataclass
class Guarded:
    """An orchestra with tokens; A and B of o1 are made."""

    watched: Watched
    path: Path
    tokens: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.watched.url


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A token of the orchestra, and one for each scope, by the name of it."""
    folder = tmp_path_factory.mktemp("guarded")
    path = folder / "tokens.yaml"
    tokens = {scope.value: add_token(path, scope.value, [scope]) for scope in Scope}
    nats = NatsServer(folder / "nats")
    nats.start()
    with (
        playing(folder, nats, token=TOKEN, tokens=str(path)) as watched,
        signed_in(watched.url, TOKEN) as browser,
    ):
        watched.stage.archive("A", "o1")

        def is_made() -> bool:
            found = browser.get("/api/conductor/processings").json()["items"]
            return [each["state"] for each in found] == ["succeeded"] * 2

        eventually_sync(is_made, ANSWER_S)
        yield Guarded(watched, path, {**tokens, "shared": TOKEN})
    nats.stop()


@contextmanager
def signed_in(url: str, token: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=ANSWER_S) as browser:
        browser.post("/session", json={"token": token}).raise_for_status()
        yield browser


@pytest.mark.parametrize(
    ("token", "may"),
    [
        ("shared", ALL),
        ("administer", ALL),
        ("operate", ["read", "operate"]),
        ("read", ["read"]),
    ],
)
def test_who_signs_in_is_told_what_their_token_is_for(
    guarded: Guarded, token: str, may: list[str]
) -> None:
    with signed_in(guarded.url, guarded.tokens[token]) as browser:
        assert browser.get("/session").json()["may"] == may
        assert browser.get("/api/sdb/products").json()["items"]
        assert browser.get("/api/conductor/summary").status_code == HTTPStatus.OK


def test_nobody_may_do_anything_before_signing_in(guarded: Guarded) -> None:
    assert httpx.get(f"{guarded.url}/session").json()["may"] == []


def test_who_may_only_import_does_not_sign_in(guarded: Guarded) -> None:
    token = {"token": guarded.tokens["import"]}
    refused = httpx.post(f"{guarded.url}/session", json=token)
    assert refused.status_code == HTTPStatus.FORBIDDEN
    line = "the dashboard: needs a token with the scope read (that of import has: import)"
    assert refused.json()["detail"] == line
    assert "set-cookie" not in refused.headers


@pytest.mark.parametrize(
    ("token", "method", "path", "needed"),
    [
        ("read", "POST", "/api/conductor/hold", "operate"),
        ("read", "DELETE", VERSION, "administer"),
        ("operate", "DELETE", VERSION, "administer"),
        ("operate", "POST", "/api/conductor/graph/versions", "administer"),
        ("operate", "POST", "/api/sdb/products", "import"),
    ],
)
def test_a_command_that_a_token_is_not_for_is_refused_in_one_line(
    guarded: Guarded, token: str, method: str, path: str, needed: str
) -> None:
    with signed_in(guarded.url, guarded.tokens[token]) as browser:
        refused = browser.request(method, path)
        assert refused.status_code == HTTPStatus.FORBIDDEN
        assert refused.json()["detail"] == (
            f"{method} {path}: needs a token with the scope {needed} (that of {token} has: {token})"
        )


def test_the_owner_of_a_token_is_the_operator_whose_command_is_recorded(guarded: Guarded) -> None:
    with signed_in(guarded.url, guarded.tokens["operate"]) as browser:
        browser.post("/api/conductor/hold").raise_for_status()
        browser.delete("/api/conductor/hold").raise_for_status()
        orders = browser.get("/api/conductor/orders").json()["items"]
        assert [each["by"] for each in orders[:2]] == ["operator operate"] * 2


def test_a_revoked_token_is_refused_and_what_it_follows_ends(guarded: Guarded) -> None:
    token = add_token(guarded.path, "ana", [Scope.READ])
    eventually_sync(partial(answers, guarded, token), ANSWER_S)
    with signed_in(guarded.url, token) as browser:
        with browser.stream("GET", "/stream") as stream:
            lines = stream.iter_lines()
            next(lines)
            revoke_tokens(guarded.path, ["ana"])
            for _ in lines:  # until it ends, as it does within seconds
                pass
        assert browser.get("/session").json() == {"needed": True, "signed_in": False, "may": []}
        assert browser.get("/api/sdb/products").status_code == HTTPStatus.UNAUTHORIZED
    eventually_sync(partial(refuse, guarded, token), ANSWER_S)


def test_an_expired_token_is_refused_also_to_who_has_signed_in(guarded: Guarded) -> None:
    token = add_token(guarded.path, "eve", [Scope.READ], datetime(2099, 1, 1, tzinfo=UTC))
    eventually_sync(partial(answers, guarded, token), ANSWER_S)
    with signed_in(guarded.url, token) as browser, browser.stream("GET", "/stream") as stream:
        lines = stream.iter_lines()
        next(lines)
        guarded.path.write_text(guarded.path.read_text().replace("2099-", "2020-"))
        for _ in lines:
            pass
    refused = httpx.post(f"{guarded.url}/session", json={"token": token})
    assert refused.status_code == HTTPStatus.UNAUTHORIZED
    line = "the token of eve has expired at 2020-01-01T00:00:00Z"
    assert refused.json()["detail"].startswith(line)
    revoke_tokens(guarded.path, ["eve"])


def test_a_file_that_breaks_is_told_by_every_service_and_revokes_nobody(guarded: Guarded) -> None:
    text = guarded.path.read_text()
    services = (guarded.url, guarded.watched.conductor_url, guarded.watched.stage.sdb_url)
    guarded.path.write_text(f"{text}mallory: plain-text-of-a-token\n")
    try:
        for url in services:
            told = eventually_sync(partial(problem_of, url), ANSWER_S)
            assert "mallory: a token in plain text" in told
            assert "plain-text-of-a-token" not in told
        assert answers(guarded, guarded.tokens["read"])
    finally:
        guarded.path.write_text(text)
    for url in services:
        eventually_sync(partial(is_well, url), ANSWER_S)


def statuses(guarded: Guarded, token: str) -> set[int]:
    """Return what dashboard, conductor and sdb answer to who shows a token."""
    watched = guarded.watched
    urls = (guarded.url, watched.conductor_url, watched.stage.sdb_url)
    headers = {"Authorization": f"Bearer {token}"}
    return {httpx.get(f"{url}/metrics", headers=headers).status_code for url in urls}


def answers(guarded: Guarded, token: str) -> bool:
    return statuses(guarded, token) == {HTTPStatus.OK}


def refuse(guarded: Guarded, token: str) -> bool:
    return statuses(guarded, token) == {HTTPStatus.UNAUTHORIZED}


def is_well(url: str) -> bool:
    return not problem_of(url)


def problem_of(url: str) -> str:
    return str(httpx.get(f"{url}/health").json()["problems"].get("tokens", ""))


def sign_in(page: Page, url: str, token: str) -> None:
    page.goto(url)
    page.get_by_label(re.compile("^Token")).fill(token)
    page.get_by_role("button", name="Sign in").click()


def test_who_watches_with_a_token_that_is_revoked_is_asked_to_sign_in(guarded: Guarded) -> None:
    token = add_token(guarded.path, "ben", [Scope.READ])
    eventually_sync(partial(answers, guarded, token), ANSWER_S)
    with opened() as page:
        sign_in(page, guarded.url, token)
        expect(page.get_by_role("heading", name="Observations")).to_be_visible()
        revoke_tokens(guarded.path, ["ben"])
        expect(page.get_by_label(re.compile("^Token"))).to_be_visible(timeout=1000 * ANSWER_S)


def test_withdrawing_is_offered_to_those_who_administer_alone(guarded: Guarded) -> None:
    address = f"{guarded.url}/products/A/o1"
    with opened() as page:
        sign_in(page, address, guarded.tokens["operate"])
        expect(page.get_by_role("heading", name="Version 1", exact=True)).to_be_visible()
        expect(page.get_by_role("button", name="Withdraw")).to_have_count(0)
        page.goto(f"{guarded.url}/observations/o1")
        expect(page.get_by_role("button", name="Make again").first).to_be_visible()
        page.context.clear_cookies()
        sign_in(page, address, guarded.tokens["administer"])
        expect(page.get_by_role("button", name="Withdraw")).to_be_visible()


def test_who_may_only_look_is_offered_no_order_on_any_page(guarded: Guarded) -> None:
    with opened() as page:
        sign_in(page, guarded.url, guarded.tokens["read"])
        expect(page.get_by_role("heading", name="Observations")).to_be_visible()
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
    guarded: Guarded,
) -> None:
    with opened() as page:
        address = f"{guarded.url}/products/A/o1"
        sign_in(page, address, guarded.tokens["operate"])
        expect(page.get_by_role("heading", name="Version 1", exact=True)).to_be_visible()
        # What the page offers may be of a moment ago: the service has the last word.
        everything = {"needed": True, "signed_in": True, "may": ALL}
        page.route("**/session", lambda route: route.fulfill(json=everything))
        page.goto(address)
        page.get_by_role("button", name="Withdraw").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label(re.compile("^Reason")).fill("wrong")
        dialog.get_by_role("button", name="Withdraw").click()
        expect(dialog.get_by_role("alert")).to_have_text(
            f"DELETE {VERSION}: needs a token with the scope administer (that of operate has: "
            "operate)"
        )
