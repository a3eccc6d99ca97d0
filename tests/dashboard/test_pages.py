"""Each page as people see it: without an error, usable by all, and loaded from nowhere else."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import ConsoleMessage, Page, expect

from batuta.cli.conductor_client import ConductorClient
from batuta.dashboard.service import open_dashboard
from tests.conductor.stage import get, one_processing, states
from tests.dashboard.conftest import Watched, dashboard_settings
from tests.dashboard.page import opened
from tests.support.services import serving
from tests.support.waiting import eventually_sync

AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = [
    "/observations",
    "/observations/o1?product=B",
    "/products/B/o1",
    "/inbox",
    "/approvals",
    "/holds",
    "/campaigns",
    "/events",
    "/dead",
    "/orders",
    "/report",
    "/providers",
    "/graph",
    "/help",
    "/wall",
]


WITHOUT = re.compile(r"\(Not Found\) .*/processings/[^/]+/(tiles|log)\b")
"""What browsers say of a processing that has neither: none of a scripted pipeline has."""


def every_page(watched: Watched) -> list[str]:
    """Return the addresses of all pages, with those of what is recorded of ``o1``."""
    with ConductorClient(watched.conductor_url) as conductor:
        campaign = conductor.plan_campaign({"products": ["B"], "obs_ids": ["o1"]})["number"]
    processing = get(watched.conductor_url, "/processings?product=B&limit=1")["items"][0]["id"]
    event = get(watched.conductor_url, "/events?limit=1")["items"][0]["id"]
    of_records = [
        f"/processings/{processing}",
        f"/events/{quote(event, safe='')}",
        f"/campaigns/{campaign}",
    ]
    return [*PAGES, *of_records]


def seen(page: Page) -> tuple[list[str], list[str]]:
    """Collect what goes wrong in a page, and the hosts that it asks."""
    wrong: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(f"{message.text} {message.location['url']}")

    page.on("console", note)
    page.on("request", lambda request: asked.append(request.url))
    return wrong, asked


def violations(page: Page) -> list[str]:
    """Return what axe-core finds, a line each."""
    # By the debugger: the policy of the page lets no script of others in.
    page.evaluate(AXE.read_text())
    found: dict[str, Any] = page.evaluate("axe.run()")
    return [
        f"{each['id']}: {node['html'][:200]}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


@pytest.mark.timeout(300)  # axe looks through 15 pages
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_opens_without_an_error_for_everybody_and_asks_no_other_host(
    watched: Watched, theme: str
) -> None:
    watched.stage.archive("A", "o1")
    made = {"B/o1": "succeeded", "C/o1": "succeeded"}
    eventually_sync(lambda: states(watched.conductor_url) == made, 30)
    with opened(theme=theme) as page:
        wrong, asked = seen(page)
        problems = []
        for address in every_page(watched):
            page.goto(watched.url + address)
            expect(page.locator("main").first).to_be_visible()
            page.wait_for_load_state("load")
            expect(page.get_by_text("Asking…")).to_have_count(0)
            problems += [f"{address} {each}" for each in violations(page)]
        assert not problems, "\n".join(problems)
        assert [each for each in wrong if not WITHOUT.search(each)] == []
        assert {
            url for url in asked if not url.startswith((watched.url, "data:", "blob:"))
        } == set()


def test_a_product_is_made_again_by_a_click_that_is_confirmed(watched: Watched) -> None:
    watched.stage.archive("A", "o1")
    made = {"B/o1": "succeeded", "C/o1": "succeeded"}
    eventually_sync(lambda: states(watched.conductor_url) == made, 30)
    with opened() as page:
        page.goto(f"{watched.url}/observations/o1")
        row = page.get_by_role("row", name=re.compile("^B "))
        row.get_by_role("button", name="Make again").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("A new version is asked of its pipeline")
        dialog.get_by_role("button", name="Make again").click()
        expect(dialog).to_have_count(0)
        expect(row.get_by_role("cell", name="2", exact=True)).to_be_visible(timeout=30_000)


def test_a_report_is_of_the_span_in_its_address_downloaded_and_light_on_paper(
    watched: Watched,
) -> None:
    watched.stage.archive("A", "o1")
    made = {"B/o1": "succeeded", "C/o1": "succeeded"}
    eventually_sync(lambda: states(watched.conductor_url) == made, 30)
    with opened(theme="dark") as page:
        page.goto(f"{watched.url}/report")
        # The address says which span it is, from the first moment on.
        expect(page).to_have_url(re.compile(r"/report\?from=.+&to=.+"))
        row = page.get_by_role("row", name=re.compile("^B maker "))
        expect(row.get_by_role("cell", name="1", exact=True)).to_be_visible()
        page.get_by_role("button", name="A week").click()
        expect(row).to_be_visible()
        of_a_week = page.url
        page.reload()
        assert page.url == of_a_week
        expect(row).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download JSON").click()
        report = json.loads(Path(download.value.path()).read_text())
        assert report["total"]["made"] == 2
        page.goto(f"{watched.url}/report?from=2020-01-01T18:00&to=2020-01-02T06:00")
        expect(page.get_by_text("Nothing was made, failed, late or waiting")).to_be_visible()
        page.goto(f"{watched.url}/report?from=2020-01-01T18:00&to=2021-01-02T06:00")
        expect(page.get_by_role("alert")).to_contain_text("at most 31 days")

        page.goto(of_a_week)
        expect(row).to_be_visible()
        page.emulate_media(media="print")
        expect(page.get_by_role("button", name="A week")).to_be_hidden()
        expect(page.get_by_role("navigation")).to_be_hidden()
        paper = "getComputedStyle(document.documentElement).backgroundColor"
        assert page.evaluate(paper) == "rgb(255, 255, 255)"
        ink = "getComputedStyle(document.querySelector('tbody td')).color"
        assert page.evaluate(ink) == "rgb(0, 0, 0)"


def test_the_wall_has_the_rates_of_the_last_hours_which_turn_grey_when_they_are_old(
    watched: Watched,
) -> None:
    watched.stage.archive("A", "o1")
    made = {"B/o1": "succeeded", "C/o1": "succeeded"}
    eventually_sync(lambda: states(watched.conductor_url) == made, 30)
    with opened() as page:
        page.clock.install()
        page.goto(f"{watched.url}/wall")
        curve = page.get_by_role("img", name=re.compile("^Products archived per minute"))
        expect(curve.locator("canvas")).to_be_visible()
        taken = page.get_by_role("img", name=re.compile("^Time from the first input"))
        expect(taken).to_have_attribute("aria-label", re.compile("the last median is [0-9]"))
        expect(page.locator(".rates.aged")).to_have_count(0)
        # The conductor answers no more.
        page.route("**/api/conductor/rates", lambda route: route.abort())
        page.clock.run_for(60_000)
        expect(page.locator(".rates.aged")).to_have_count(1)
        expect(page.locator(".rates")).to_contain_text("as of")


def test_the_wall_begins_with_its_clock_and_then_with_what_needs_somebody(
    watched: Watched,
) -> None:
    httpx.post(f"{watched.conductor_url}/holds", json={"product": "B"}).raise_for_status()
    for name in ("o1", "o2"):
        watched.stage.archive("A", name)
    held = {"B/o1": "held", "B/o2": "held"}
    eventually_sync(lambda: states(watched.conductor_url) == held, 30)
    with opened() as page:
        page.goto(f"{watched.url}/wall")
        top = page.locator(".wall .top")
        expect(top.get_by_text("held")).to_have_text("2 held")
        texts = top.locator("> *").evaluate_all(
            "found => found.map(each => [each.getBoundingClientRect().x, each.innerText])"
            ".sort((a, b) => a[0] - b[0]).map(each => each[1])"
        )
        assert "UTC" in texts[0]
        assert texts[1] == "2 held"
        # All of it is on one screen.
        assert page.evaluate("document.documentElement.scrollHeight - innerHeight") <= 0


def test_what_is_shown_turns_grey_and_says_so_when_the_dashboard_is_gone(
    watched: Watched,
) -> None:
    settings = dashboard_settings(watched.stage, watched.conductor_url)
    with opened() as page:
        with serving(open_dashboard, settings) as url:
            page.goto(f"{url}/help")
            expect(page.get_by_text("Marks")).to_be_visible()
            expect(page.get_by_role("alert")).to_have_count(0)
        told = "Nothing comes from the dashboard"
        expect(page.get_by_role("alert")).to_contain_text(told, timeout=30_000)
        expect(page.locator("main.aged")).to_have_count(1)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_questions_and_the_search_are_usable_by_all(watched: Watched, theme: str) -> None:
    watched.stage.archive("A", "o1")
    made = {"B/o1": "succeeded", "C/o1": "succeeded"}
    eventually_sync(lambda: states(watched.conductor_url) == made, 30)
    with opened(theme=theme) as page:
        dialog = page.get_by_role("dialog")
        for address, name in (
            ("/observations/o1", "Make again"),
            ("/products/B/o1", "Withdraw"),
            ("/holds", "Hold everything"),
        ):
            page.goto(watched.url + address)
            page.get_by_role("button", name=name, exact=True).first.click()
            expect(dialog.locator("button[type=submit]")).to_be_enabled()
            assert violations(page) == [], address
        page.goto(f"{watched.url}/help")
        expect(page.get_by_role("heading", name="Keys")).to_be_visible()
        page.keyboard.press("/")
        for text, told in (("o", "observation o1"), ("nowhere", "Nothing that is shown live")):
            page.get_by_role("combobox", name="Observation, or page").fill(text)
            expect(dialog).to_contain_text(told)
            assert violations(page) == [], text


def test_colours_and_the_name_of_orders_survive_a_reload(watched: Watched) -> None:
    with opened() as page:
        page.goto(f"{watched.url}/help")
        page.get_by_label("Colours").select_option("dark")
        page.get_by_label("Orders are recorded under").fill("ana")
        page.reload()
        expect(page.locator("html[data-theme=dark]")).to_have_count(1)
        expect(page.get_by_label("Colours")).to_have_value("dark")
        expect(page.get_by_label("Orders are recorded under")).to_have_value("ana")


def test_times_are_in_utc_with_the_local_one_on_hover(watched: Watched) -> None:
    watched.stage.archive("A", "o1")
    with opened() as page:
        browser = page.context.browser
        assert browser is not None
        with browser.new_page(timezone_id="Asia/Tokyo", locale="en-GB") as tokyo:
            tokyo.goto(f"{watched.url}/products/A/o1")
            time = tokyo.locator("main time").first
            expect(time).to_have_attribute("title", re.compile("local time$"))
            local = (time.get_attribute("title") or "").removesuffix(" local time")
            shown = datetime.strptime(time.inner_text(), "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007  UTC
            there = datetime.strptime(local, "%d/%m/%Y, %H:%M:%S")  # noqa: DTZ007  of Tokyo
            assert there - shown == timedelta(hours=9)


@pytest.mark.parametrize("width", [390, 3840], ids=["a phone", "a wall"])
def test_the_smallest_and_the_widest_screen_scroll_in_one_direction_only(
    watched: Watched, width: int
) -> None:
    watched.stage.archive("A", "o1")
    eventually_sync(one_processing(watched.conductor_url), 30)
    too_wide: list[str] = []
    with opened(width=width) as page:
        for address in every_page(watched):
            page.goto(watched.url + address)
            expect(page.locator("main").first).to_be_visible()
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            too_wide += [f"{address} by {wide} px"] if wide > 0 else []
        assert not too_wide
