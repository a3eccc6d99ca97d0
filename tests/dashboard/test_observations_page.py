"""The page of all observations: searched, grouped, ordered, and of chosen levels of products."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.conductor.stage import ANSWER_S, states
from tests.dashboard.conftest import GRAPH, Watched, playing
from tests.dashboard.page import opened
from tests.support.servers import NatsServer
from tests.support.waiting import eventually_sync


@pytest.fixture(scope="module")
def orchestra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Three observations at rest, and one of which B is tried again."""
    folder: Path = tmp_path_factory.mktemp("orchestra")
    nats = NatsServer(folder / "nats")
    nats.start()
    with playing(folder, nats, {"graph": GRAPH, "retry_wait_s": 600}) as watched:
        watched.stage.pipeline.outcomes["B"].append("failed")
        watched.stage.archive("A", "moon-1")
        eventually_ended(watched, "B/moon-1", "retrying")
        for name in ("sun-1", "sun-2", "star-1"):
            watched.stage.archive("A", name)
            eventually_ended(watched, f"C/{name}", "succeeded")
        yield watched
    nats.stop()


def eventually_ended(watched: Watched, what: str, state: str) -> None:
    eventually_sync(lambda: states(watched.conductor_url).get(what) == state, ANSWER_S)


@pytest.fixture(scope="module")
def page(orchestra: Watched) -> Iterator[Page]:
    del orchestra  # it outlives the page
    with opened() as page:
        yield page


def rows(page: Page, number: int) -> list[str]:
    """Read the first cells of as many rows, as who sees nothing hears them."""
    matrix = page.get_by_role("region", name="Observations by products")
    said = page.get_by_role("status")
    matrix.focus()
    found = []
    for row in range(number):
        before = said.text_content()
        matrix.press("ArrowDown")
        if row:
            expect(said).not_to_have_text(before or "")
        found.append(said.text_content() or "")
    return found


def open_page(page: Page, url: str, told: str) -> None:
    page.goto(url)
    expect(page.get_by_text(told)).to_be_visible()


def test_a_search_shows_at_once_what_it_finds(orchestra: Watched, page: Page) -> None:
    open_page(page, f"{orchestra.url}/observations?order=name", "4 observations, live")
    page.get_by_label("Search").fill("sun")
    expect(page.get_by_text("2 observations of 4, live")).to_be_visible()
    # Nothing has changed in the orchestra since the page was opened.
    assert rows(page, 2) == ["sun-1: A available", "sun-2: A available"]
    assert page.url.endswith("?order=name&search=sun")
    page.get_by_label("Search").fill("mars")
    page.get_by_role("button", name="Show all").click()
    expect(page.get_by_text("4 observations, live")).to_be_visible()


@pytest.mark.parametrize(
    ("order", "first"),
    [("by name", "moon-1"), ("heard of last", "star-1"), ("least complete first", "moon-1")],
)
def test_an_order_says_which_comes_first(
    orchestra: Watched, page: Page, order: str, first: str
) -> None:
    open_page(page, f"{orchestra.url}/observations", "4 observations, live")
    page.get_by_label(re.compile("^Order")).select_option(order)
    assert rows(page, 1) == [f"{first}: A available"]


def test_groups_are_told_with_their_number_closed_and_part_of_the_address(
    orchestra: Watched, page: Page
) -> None:
    open_page(page, f"{orchestra.url}/observations?order=name", "4 observations, live")
    page.get_by_label("Groups").select_option("by what needs most attention")
    attention = ["▾ tried again: 1", "moon-1: A available", "▾ at rest: 3", "star-1: A available"]
    assert rows(page, 4) == attention
    page.get_by_label("Groups").select_option("by the beginning of the name")
    open_page(page, page.url, "4 observations, live")
    matrix = page.get_by_role("region", name="Observations by products")
    assert rows(page, 1) == ["▾ moon: 1"]
    matrix.press("Enter")
    expect(page).to_have_url(re.compile("closed=moon"))
    page.reload()
    expect(page.get_by_text("4 observations, live")).to_be_visible()
    assert rows(page, 3) == ["▸ moon: 1", "▾ star: 1", "star-1: A available"]
    page.get_by_label("Groups").select_option("by the day of the last news (UTC)")
    assert "closed" not in page.url


def test_levels_of_products_are_left_out_and_shown_again(orchestra: Watched, page: Page) -> None:
    open_page(page, f"{orchestra.url}/observations?order=name", "4 observations, live")
    inputs = page.get_by_role("button", name="inputs (1)")
    expect(inputs).to_have_attribute("aria-pressed", "true")
    inputs.click()
    expect(inputs).to_have_attribute("aria-pressed", "false")
    page.reload()
    expect(inputs).to_have_attribute("aria-pressed", "false")
    assert rows(page, 1) == ["moon-1: B retrying"]
    inputs.click()
    open_page(page, page.url, "4 observations, live")
    assert rows(page, 1) == ["moon-1: A available"]


def test_only_observations_with_a_product_in_a_state_are_shown(
    orchestra: Watched, page: Page
) -> None:
    open_page(page, f"{orchestra.url}/observations", "4 observations, live")
    page.get_by_role("button", name="retrying").click()
    expect(page.get_by_text("1 observation of 4, live")).to_be_visible()
    assert rows(page, 1) == ["moon-1: A available"]
