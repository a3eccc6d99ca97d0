"""The pictures of products, in the page."""

from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from batuta.sdb import SdbClient
from tests.dashboard.conftest import Watched
from tests.dashboard.page import opened
from tests.dashboard.test_pages import seen


@pytest.fixture
def pictured(watched: Watched, tmp_path: Path) -> Watched:
    """A product with four versions: drawn, given, one that cannot be drawn, one of no kind."""
    Image.new("RGB", (123, 45), "teal").save(tmp_path / "given.png")
    table = tmp_path / "curve.csv"
    table.write_text("time,rate\n" + "".join(f"{n},{n * n % 7}\n" for n in range(50)))
    (tmp_path / "cut.png").write_bytes((tmp_path / "given.png").read_bytes()[:60])
    (tmp_path / "notes.txt").write_text("text")
    with SdbClient(watched.stage.sdb_url) as sdb:
        sdb.import_file(table, "A", "o1")
        sdb.import_file(table, "A", "o1", quicklook=tmp_path / "given.png")
        sdb.import_file(tmp_path / "cut.png", "A", "o1")
        sdb.import_file(tmp_path / "notes.txt", "A", "o1")
    return watched


def expect_shown(picture: Locator, width_px: int) -> None:
    expect(picture).to_be_visible()
    # What a picture that could not be loaded does not have.
    picture.evaluate("each => each.decode()")
    assert picture.evaluate("each => each.naturalWidth") == width_px


def test_each_version_shows_its_picture_or_why_it_has_none(pictured: Watched) -> None:
    with opened() as page:
        wrong, _ = seen(page)
        page.goto(f"{pictured.url}/products/A/o1")
        expect(page.get_by_text("notes.txt of type text/plain is not drawn")).to_be_visible()
        page.get_by_role("link", name="3", exact=True).click()
        expect(page.get_by_text("Cannot be drawn: it cannot be read")).to_be_visible()
        page.get_by_role("link", name="2", exact=True).click()
        expect_shown(page.get_by_alt_text("Quicklook of A of o1, version 2, given with it"), 123)
        page.get_by_role("link", name="1", exact=True).click()
        drawn = page.get_by_alt_text("Quicklook of A of o1, version 1, drawn by Batuta")
        expect_shown(drawn, 720)
        assert wrong == []


def test_a_withdrawn_version_shows_none(pictured: Watched) -> None:
    with SdbClient(pictured.stage.sdb_url) as sdb:
        for version in (3, 4):
            sdb.withdraw("A", "o1", version)
    with opened() as page:
        wrong, _ = seen(page)
        page.goto(f"{pictured.url}/products/A/o1?version=4")
        expect(page.get_by_text("It was withdrawn, and is not shown any more.")).to_be_visible()
        page.goto(f"{pictured.url}/observations/o1")
        picture = page.get_by_alt_text("Quicklook of A of o1, version 2, given with it")
        expect_shown(picture, 123)
        picture.click()
        expect(page.get_by_role("heading", name="Quicklook of version 2")).to_be_visible()
        assert wrong == []
