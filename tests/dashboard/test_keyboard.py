"""The page without a mouse: every place is reached, and every order given, by keys alone."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.conductor.graphs import graph_of
from tests.conductor.stage import ANSWER_S, states
from tests.dashboard.conftest import Watched, playing
from tests.dashboard.page import opened
from tests.support.servers import NatsServer
from tests.support.waiting import eventually_sync

GRAPH = graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}, "C": {"m_input": ["B"]}})
MAX_TABS = 60
"""From the top of a page to any control of these tests."""


@pytest.fixture(scope="module")
def orchestra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """An orchestra in which B of o1 and of o2 have failed."""
    folder = tmp_path_factory.mktemp("orchestra")
    nats = NatsServer(folder / "nats")
    nats.start()
    with playing(folder, nats, {"graph": GRAPH}) as watched:
        watched.stage.pipeline.outcomes["B"].extend(["failed"] * 2)
        watched.stage.archive("A", "o1")
        watched.stage.archive("A", "o2")
        failed = {"B/o1": "failed", "B/o2": "failed"}
        eventually_sync(lambda: states(watched.conductor_url) == failed, ANSWER_S)
        yield watched
    nats.stop()


@pytest.fixture(scope="module")
def page(orchestra: Watched) -> Iterator[Page]:
    del orchestra  # it outlives the page
    with opened() as page:
        yield page


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until `wanted` has the focus, which is to be seen."""
    expect(wanted).to_be_visible()
    for _ in range(MAX_TABS):
        page.keyboard.press("Tab")
        if wanted.evaluate("each => each === document.activeElement"):
            style = "each => getComputedStyle(each).outlineStyle"
            assert wanted.evaluate(style) != "none"
            return
    raise AssertionError(f"not reached by {MAX_TABS} Tabs: {wanted}")


def test_a_retry_is_ordered_from_the_observations_by_keys_alone(
    orchestra: Watched, page: Page
) -> None:
    page.goto(f"{orchestra.url}/observations?order=name")
    matrix = page.get_by_role("region", name="Observations by products")
    tab_to(page, matrix)
    # The first arrow leads to the first cell: o1, A.
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("status").filter(has_text="o1: B failed")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{orchestra.url}/observations/o1?product=B")
    retry = page.get_by_role("button", name="Retry")
    tab_to(page, retry)
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("It is asked of maker now")
    expect(dialog.get_by_label("Reason (it is recorded)")).to_be_focused()
    page.keyboard.type("by keys")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    eventually_sync(lambda: states(orchestra.conductor_url)["B/o1"] == "succeeded", ANSWER_S)


def test_a_search_leads_to_pages_and_observations_and_gives_the_focus_back(
    orchestra: Watched, page: Page
) -> None:
    page.goto(f"{orchestra.url}/help")
    brand = page.get_by_role("link", name="Batuta")
    tab_to(page, brand)
    page.keyboard.press("/")
    search = page.get_by_role("combobox", name="Observation, or page")
    expect(search).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(brand).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("o2")
    found = page.get_by_role("listbox", name="Found").get_by_role("option")
    expect(found.first).to_have_text("observation o2")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{orchestra.url}/observations/o2")
    page.keyboard.press("/")
    page.keyboard.type("ld")
    expect(found.and_(page.locator("[aria-selected=true]"))).to_have_text("Holds")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Holds", exact=True)).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keys")).to_be_visible()


def test_arrows_lead_from_row_to_row_and_from_control_to_control(
    orchestra: Watched, page: Page
) -> None:
    page.goto(f"{orchestra.url}/observations/o2")
    first = page.get_by_role("row").get_by_role("link", name="A", exact=True)
    tab_to(page, first)
    page.keyboard.press("ArrowDown")
    second = page.get_by_role("row").get_by_role("link", name="B", exact=True)
    expect(second).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="Retry")).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    expect(first).to_be_focused()
