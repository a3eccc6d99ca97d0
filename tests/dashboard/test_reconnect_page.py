"""A page whose dashboard goes away and comes back, or hears nothing itself."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, expect

from batuta.dashboard.service import open_dashboard
from tests.dashboard.conftest import Watched, dashboard_settings
from tests.dashboard.page import opened
from tests.support.servers import free_port
from tests.support.services import serving

AGED = "what is shown is of the past"
NOWHERE = "http://127.0.0.1:9"


@contextmanager
def opened_beside(page: Page) -> Iterator[Page]:
    """Open a page of another viewer in the same browser."""
    browser = page.context.browser
    assert browser is not None
    with browser.new_page() as other:
        yield other


def test_what_changed_while_the_dashboard_was_away_is_shown_without_a_reload(
    watched: Watched,
) -> None:
    port = str(free_port())
    settings = dashboard_settings(watched.stage, watched.conductor_url, port=port)
    with opened() as page:
        alert = page.get_by_role("alert")
        watched.stage.archive("A", "o1")
        with serving(open_dashboard, settings) as url:
            page.goto(f"{url}/observations")
            expect(page.get_by_text("1 observation, live")).to_be_visible()
        expect(alert).to_contain_text(AGED)
        watched.stage.archive("A", "o2")
        with serving(open_dashboard, settings):
            expect(page.get_by_text("2 observations, live")).to_be_visible()
            expect(alert).to_have_count(0)


def test_pages_turn_grey_while_nats_is_dead_and_then_show_what_they_missed(
    watched: Watched,
) -> None:
    watched.stage.archive("A", "o1")
    with opened() as page, opened_beside(page) as wall:
        wall.goto(f"{watched.url}/wall")
        page.goto(f"{watched.url}/observations")
        pages = (page, wall)
        expect(page.get_by_text("1 observation, live")).to_be_visible()
        expect(wall.get_by_role("heading", name="Observations by products")).to_be_visible()
        for each in pages:
            expect(each.locator("main.aged")).to_have_count(0)
            expect(each.get_by_role("alert")).to_have_count(0)
        watched.stage.nats.stop()
        for each in pages:
            expect(each.get_by_role("alert")).to_contain_text("hears nothing from NATS")
            expect(each.get_by_role("alert")).to_contain_text(AGED)
            expect(each.locator("main.aged")).to_have_count(1)
        watched.stage.archive("A", "o2")
        watched.stage.nats.start()
        expect(page.get_by_text("2 observations, live")).to_be_visible()
        for each in pages:
            expect(each.get_by_role("alert")).to_have_count(0)
            expect(each.locator("main.aged")).to_have_count(0)


def test_a_page_says_that_the_conductor_is_away_and_shows_nothing_of_an_earlier_dashboard(
    watched: Watched,
) -> None:
    port = str(free_port())
    watched.stage.archive("A", "o1")
    with opened() as page:
        settings = dashboard_settings(watched.stage, watched.conductor_url, port=port)
        with serving(open_dashboard, settings) as url:
            page.goto(f"{url}/observations")
            expect(page.get_by_text("1 observation, live")).to_be_visible()
        with serving(open_dashboard, dashboard_settings(watched.stage, NOWHERE, port=port)):
            alert = page.get_by_role("alert")
            expect(alert).to_contain_text("hears nothing from the conductor")
            expect(page.get_by_text("0 observations")).to_be_visible()


def test_a_tab_that_was_left_out_follows_again(watched: Watched) -> None:
    watched.stage.archive("A", "o1")
    with opened() as page:
        page.goto(f"{watched.url}/observations")
        expect(page.get_by_text("1 observation, live")).to_be_visible()
        # As a tab that was frozen for so long that nothing more is sent to it.
        page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
        watched.stage.archive("A", "o2")
        expect(page.get_by_text("2 observations, live")).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0)
