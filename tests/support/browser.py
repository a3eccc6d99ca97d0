"""A headless browser, for tests of pages as people see them."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from PIL import Image

REQUIRED_VARIABLE: Final = "BATUTA_TESTS_REQUIRE"
"""Comma-separated names of programs without which tests fail, rather than being skipped."""
_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
_VIRTUAL_MS: Final = 6_000
"""Time on the page's virtual clock, which advances at once while the page is idle."""
_PROBE: Final = """<script>
addEventListener("error", (event) => note("errors", event.message), true);
addEventListener("unhandledrejection", (event) => note("errors", String(event.reason)));
const noted = {errors: [], loaded: [], places: {}};
function note(key, value) { noted[key].push(value); }
setInterval(() => {
  noted.loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
  for (const chart of document.querySelectorAll("[id]")) {
    const {left, top, right, bottom} = chart.getBoundingClientRect();
    noted.places[chart.id] = [left, top, right, bottom].map(Math.round);
  }
  noted.width = document.documentElement.scrollWidth;
  document.documentElement.dataset.noted = JSON.stringify(noted);
}, 200);
</script>"""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, px."""


@dataclass(frozen=True)
class Seen:
    """A page as a browser shows it."""

    text: str
    """Its document, as HTML, once all scripts have run."""
    picture: Image.Image
    """What the window shows, from the top of the page."""
    places: dict[str, Box]
    """Where each element with an id is."""
    errors: tuple[str, ...]
    """Errors of its scripts, and of resources that did not load."""
    loaded: tuple[str, ...]
    """Addresses of the resources that it loaded."""
    width: int
    """Width of its content, px: larger than the window if it scrolls sideways."""


def skip_without_chromium() -> str:
    """Return the path of Chromium; if missing, skip the test, or fail it if required."""
    for program in _PROGRAMS:
        found = shutil.which(program)
        if found:
            return found
    reason = f"Chromium is not installed: no {', '.join(_PROGRAMS)} (apt-get install chromium)"
    if "chromium" in os.environ.get(REQUIRED_VARIABLE, "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


class Browser:
    """Chromium without network access.

    Parameters
    ----------
    program : str
        Its path.
    folder : Path
        Where it writes its profile, pages and pictures.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder

    def look(self, html: str, *, width: int = 1200, height: int = 3000, dark: bool = False) -> Seen:
        """Open a page in a window of `width` by `height` pixels."""
        page = self._folder / "page.html"
        page.write_text(html.replace("<head>", f"<head>{_PROBE}", 1), encoding="utf-8")
        picture = self._folder / "page.png"
        window = (
            f"--window-size={width},{height}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        )
        # One start for both: most of its time is that of starting.
        text = self._run(*window, "--dump-dom", f"--screenshot={picture}", page.as_uri())
        found = re.search(r'data-noted="([^"]*)"', text)
        assert found, "the page's scripts did not run"
        noted = json.loads(unescape(found.group(1)))
        with Image.open(picture) as image:
            pixels = image.convert("RGB")
        return Seen(
            text=text,
            picture=pixels,
            places={
                name: (box[0], box[1], box[2], box[3]) for name, box in noted["places"].items()
            },
            errors=tuple(noted["errors"]),
            loaded=tuple(noted["loaded"]),
            width=noted["width"],
        )

    def _run(self, *arguments: str) -> str:
        command = [
            self._program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={self._folder / 'profile'}",
            f"--virtual-time-budget={_VIRTUAL_MS}",
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
        return done.stdout


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """A browser that starts anew for each page, with the profile folder of the page before."""
    return Browser(skip_without_chromium(), tmp_path_factory.mktemp("browser"))


def box_of(picture: Image.Image, colour: str, *, near: int = 12) -> Box | None:
    """Return the smallest box around all pixels near a colour (``#rrggbb``), or None."""
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    apart = np.abs(np.asarray(picture, dtype=np.int16) - np.array(wanted, dtype=np.int16))
    rows, cols = np.nonzero((apart <= near).all(axis=2))
    if not len(rows):
        return None
    return int(cols.min()), int(rows.min()), int(cols.max()) + 1, int(rows.max()) + 1
