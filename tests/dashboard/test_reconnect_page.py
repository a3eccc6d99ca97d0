"""A page whose dashboard goes away and comes back."""

from playwright.sync_api import expect

from batuta.dashboard.service import open_dashboard
from tests.dashboard.conftest import Watched, dashboard_settings
from tests.dashboard.page import opened
from tests.support.servers import free_port
from tests.support.services import serving


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
        expect(alert).to_contain_text("what is shown is of the past")
        watched.stage.archive("A", "o2")
        with serving(open_dashboard, settings):
            expect(page.get_by_text("2 observations, live")).to_be_visible()
            expect(alert).to_have_count(0)
