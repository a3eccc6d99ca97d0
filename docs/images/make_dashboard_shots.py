# ruff: noqa: INP001  a script, of no package
"""Photographs the pages of the dashboard, light and dark, of a demonstration that is kept open.

Start ``make demo DEMO_ARGS=--keep``, wait until it has ended, then give the address of its
dashboard, and a folder: ``docs/images/make_dashboard_shots.py http://127.0.0.1:8000 shots``.
With ``--publish``, the pictures that the documentation shows replace those beside this script.
It needs Chromium: ``apt-get install chromium``.
"""

import argparse
import io
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast
from urllib.parse import quote

import httpx
from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

Theme = Literal["light", "dark"]

PAIR: Final = "MIDDLEBURY-MOTORCYCLE"
HEIGHT_PX: Final = 800
TIMEOUT_MS: Final = 30_000
COLOURS: Final = 256
PUBLISHED: Final[Mapping[str, Theme]] = {
    "wall": "dark",
    "observation": "dark",
    "processing": "light",
    "product": "light",
    "report": "light",
}
"""The pages that the documentation shows, and in which theme."""


@dataclass(frozen=True)
class Shot:
    """A page to photograph.

    Attributes
    ----------
    name, address : str
        What its picture is called, and where it is.
    seen : str
        A selector of what is there once it is drawn.
    width, height : int
        Of the window, px.
    """

    name: str
    address: str
    seen: str
    width: int = 1280
    height: int = HEIGHT_PX


def shots(url: str) -> Iterator[Shot]:
    """Yield the pages, those of a processing and of a span of time by what `url` knows."""
    tiled = _first(url, "processings", product="DISPARITY", state="succeeded")
    campaign = _first(url, "campaigns")
    pair = quote(PAIR)
    yield Shot("wall", "/wall", "canvas", width=1920, height=1080)
    yield Shot("observations", "/observations", "canvas")
    yield Shot("observation", f"/observations/{pair}?product=STEREO_REPORT", ".graph .node")
    yield Shot("processing", f"/processings/{tiled['id']}", "canvas")
    yield Shot("product", f"/products/DISPARITY/{pair}", "main img")
    yield Shot("inbox", "/inbox", "main h1")
    yield Shot("campaigns", "/campaigns", "main table")
    yield Shot("campaign", f"/campaigns/{campaign['number']}", "main table")
    yield Shot("report", "/report", "main table", height=1100)
    yield Shot("graph", "/graph", ".graph .node")


def _first(url: str, what: str, **filters: str) -> dict[str, Any]:
    """Return the newest of what the conductor lists."""
    answer = httpx.get(
        f"{url}/api/conductor/{what}", params={**filters, "limit": "1"}, trust_env=False
    )
    [found] = answer.raise_for_status().json()["items"]
    return cast("dict[str, Any]", found)


def photograph(browser: Browser, url: str, shot: Shot, theme: Theme) -> Image.Image:
    """Open a page and return what its window shows, with few colours."""
    page = browser.new_page(
        viewport={"width": shot.width, "height": shot.height}, color_scheme=theme
    )
    page.goto(url + shot.address)
    expect(page.locator(shot.seen).first).to_be_visible(timeout=TIMEOUT_MS)
    # The event stream never ends, so the network is never idle: all is drawn once nothing says any
    # more that it was asked for.
    for text in ("Asking…", "Being drawn…"):
        expect(page.get_by_text(text)).to_have_count(0, timeout=TIMEOUT_MS)
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("complete", value=True)
    page.evaluate("scrollTo(0, 0)")
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    page.close()
    return small


def main() -> None:
    """Photograph all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="the address of the dashboard")
    parser.add_argument("folder", type=Path, help="where to put the pictures")
    parser.add_argument("--publish", action="store_true", help="replace those of the documentation")
    given = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        parser.error("Chromium is not installed (apt-get install chromium)")
    given.folder.mkdir(parents=True, exist_ok=True)
    url = given.url.rstrip("/")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for shot in shots(url):
            for theme in cast("tuple[Theme, ...]", ("light", "dark")):
                picture = photograph(browser, url, shot, theme)
                picture.save(given.folder / f"{shot.name}-{theme}.png", optimize=True)
                if given.publish and PUBLISHED.get(shot.name) == theme:
                    target = Path(__file__).with_name(f"dashboard-{shot.name}.png")
                    picture.save(target, optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
