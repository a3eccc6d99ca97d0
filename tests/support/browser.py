"""A headless browser, for tests of pages as people see them."""

import io
import json
import os
import re
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any, Final

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
    """Chromium without network access. It starts once: that takes most of the time of a page.

    It is told what to do by the DevTools protocol, over pipes.

    Parameters
    ----------
    program : str
        Its path.
    folder : Path
        Where it writes its profile and pages.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._events: list[str] = []
        self._unread = b""
        their_input, self._input = os.pipe()
        self._output, their_output = os.pipe()
        # It reads from descriptor 3 and writes to 4, and nowhere else.
        redirected = f'exec "$@" 3<&{their_input} 4>&{their_output}'
        self._process = subprocess.Popen(
            [
                *("bash", "-c", redirected, "bash"),  # `sh` may know one digit only
                program,
                "--remote-debugging-pipe",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--hide-scrollbars",
                "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--user-data-dir={folder / 'profile'}",
            ],
            pass_fds=(their_input, their_output),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_input)
        os.close(their_output)

    def look(self, html: str, *, width: int = 1200, height: int = 3000, dark: bool = False) -> Seen:
        """Open a page in a window of `width` by `height` pixels."""
        page = self._folder / "page.html"
        page.write_text(html.replace("<head>", f"<head>{_PROBE}", 1), encoding="utf-8")
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        session = attached["sessionId"]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setDeviceMetricsOverride", session, **size)
        self._call("Emulation.setEmulatedMedia", session, features=[scheme])
        self._call("Page.enable", session)
        self._call("Page.navigate", session, url=page.as_uri())
        self._wait_for("Page.loadEventFired")
        until_idle = {"policy": "pauseIfNetworkFetchesPending", "budget": _VIRTUAL_MS}
        self._call("Emulation.setVirtualTimePolicy", session, **until_idle)
        self._wait_for("Emulation.virtualTimeBudgetExpired")
        document = {"expression": "document.documentElement.outerHTML"}
        text = self._call("Runtime.evaluate", session, **document)["result"]["value"]
        picture = b64decode(self._call("Page.captureScreenshot", session)["data"])
        self._call("Target.closeTarget", targetId=target)
        found = re.search(r'data-noted="([^"]*)"', text)
        assert found, "the page's scripts did not run"
        noted = json.loads(unescape(found.group(1)))
        with Image.open(io.BytesIO(picture)) as image:
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

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._input)
        os.close(self._output)

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Call a method, and return what it answers."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._input, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self._events.append(answer.get("method", ""))
        assert "error" not in answer, answer
        return answer["result"]

    def _wait_for(self, event: str) -> None:
        while event not in self._events:
            self._events.append(self._read().get("method", ""))
        self._events.clear()

    def _read(self) -> dict[str, Any]:
        """Return the next message; `timeout` of the test bounds how long it takes."""
        while b"\0" not in self._unread:
            read = os.read(self._output, 1 << 20)
            assert read, f"Chromium has ended, with code {self._process.wait()}"
            self._unread += read
        message, _, self._unread = self._unread.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser, in which each page has a tab of its own."""
    opened = Browser(skip_without_chromium(), tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


def box_of(picture: Image.Image, colour: str, *, near: int = 12) -> Box | None:
    """Return the smallest box around all pixels near a colour (``#rrggbb``), or None."""
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    apart = np.abs(np.asarray(picture, dtype=np.int16) - np.array(wanted, dtype=np.int16))
    rows, cols = np.nonzero((apart <= near).all(axis=2))
    if not len(rows):
        return None
    return int(cols.min()), int(rows.min()), int(cols.max()) + 1, int(rows.max()) + 1
