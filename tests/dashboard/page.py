"""The page of the dashboard in a real browser."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from batuta.dashboard.pages import FOLDER
from tests.support.browser import REQUIRED_VARIABLE, skip_without_chromium

# Beside other tests on a small machine.
expect.set_options(timeout=30_000)


@contextmanager
def opened(width: int = 1280, theme: str = "light") -> Iterator[Page]:
    """Open a page; it runs an event loop in this thread, so nothing else may start one there."""
    program = skip_without_chromium()
    if not (FOLDER / "app.js").exists():
        reason = "the page is not built: python3 web/build_page.py"
        if "chromium" in os.environ.get(REQUIRED_VARIABLE, "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        scheme = {"light": "light", "dark": "dark"}[theme]
        yield browser.new_page(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]  # one of the literals that it accepts
        )
        browser.close()
