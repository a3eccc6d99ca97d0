"""The page in Chromium, and the service that 20 watch, while 200 things change each second."""

import asyncio
import gzip
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
from playwright.sync_api import CDPSession, Page, Route, sync_playwright

from batuta.dashboard.pages import FOLDER
from batuta.pipeline.messages import TilesChanged, TilesPlanned
from batuta.pipeline.tile_board import TileBoard
from batuta.pipeline.tile_codes import TileChange, TileGridRecord, TileState, encode_changes
from benchmarks.orchestra.support.services import program
from benchmarks.support.figures import Figure, Target, not_measured

OBSERVATIONS: Final = 1000
PRODUCTS: Final = 25
CHANGES_PER_S: Final = 200
VIEWERS: Final = 20
TILE_ROWS: Final = 250
TILE_COLS: Final = 400
TILE_PX: Final = 16
DRAWS: Final = 10
WINDOW_S: Final = 0.3
_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
_COUNT_FRAMES: Final = """seconds => new Promise(done => {
  let frames = 0;
  const end = performance.now() + 1000 * seconds;
  const next = now => { frames += 1; now < end ? requestAnimationFrame(next) : done(frames); };
  requestAnimationFrame(next);
})"""
_FIRST_PAINT: Final = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_SHOWN: Final = "() => document.querySelector('.matrix')"


def _metrics(session: CDPSession) -> dict[str, float]:
    """Return what Chromium has counted of a page."""
    found = session.send("Performance.getMetrics")["metrics"]
    return {each["name"]: each["value"] for each in found}


def heap_bytes(session: CDPSession) -> float:
    """Return what the objects of a page take that it still refers to."""
    session.send("HeapProfiler.collectGarbage")
    return _metrics(session)["JSHeapUsedSize"]


def _renderer_s(page: Page) -> float:
    """Return the processor time of all renderers: the page's, and its worker's."""
    browser = page.context.browser
    assert browser is not None  # noqa: S101  it was launched here
    found = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return float(sum(each["cpuTime"] for each in found if each["type"] == "renderer"))


@contextmanager
def opened_browser() -> Iterator[Page]:
    """Open a page in Chromium."""
    path = next((found for name in _PROGRAMS if (found := shutil.which(name))), None)
    if path is None:
        raise RuntimeError(f"no Chromium: none of {', '.join(_PROGRAMS)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1280, "height": 900})
        browser.close()


def _live(page: Page, url: str, seconds: float) -> list[Figure]:
    """Measure the observations while they change."""
    page.goto(f"{url}/observations")
    page.wait_for_function(_SHOWN)
    first_paint_ms = page.evaluate(_FIRST_PAINT)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    page.evaluate(_COUNT_FRAMES, 3)  # what is compiled first is not what it costs
    heap_before, task_before = heap_bytes(session), _metrics(session)["TaskDuration"]
    renderer_before, began = _renderer_s(page), time.perf_counter()
    frames = page.evaluate(_COUNT_FRAMES, seconds)
    took_s = time.perf_counter() - began
    share = 100 * (_renderer_s(page) - renderer_before) / took_s
    tasks = 100 * (_metrics(session)["TaskDuration"] - task_before) / took_s
    heap_after = heap_bytes(session)
    growth = (heap_after - heap_before) / 1e6
    what = f"{OBSERVATIONS:,} x {PRODUCTS}, {CHANGES_PER_S} changes a second"
    return [
        _figure(f"{what}: frames", frames / seconds, "/s", Target("at least", 50)),
        _figure(
            f"{what}: processor time of the page, of a core",
            share,
            "%",
            Target("at most", 30),
            f"its main thread is in a task for {tasks:.0f} % of the time",
        ),
        _figure(
            f"{what}: growth of the heap in {took_s:.0f} s",
            growth,
            "MB",
            Target("at most", 2),
            f"from {heap_before / 1e6:.1f} MB",
        ),
        _figure("first paint", first_paint_ms, "ms", Target("at most", 1000)),
    ]


def _figure(what: str, value: float, unit: str, target: Target, against: str = "") -> Figure:
    return Figure(
        what=what,
        measured=f"{value:.3g} {unit}",
        against=against,
        ratio=value,
        unit=unit,
        target=target,
    )


def _tiles_of(attempt: int) -> dict[str, Any]:
    bounds = [
        tuple(x for at in range(n) for x in (at * TILE_PX, (at + 1) * TILE_PX))
        for n in (TILE_ROWS, TILE_COLS)
    ]
    grid = TileGridRecord(
        dataset="height", rows=TILE_ROWS, cols=TILE_COLS, row_bounds=bounds[0], col_bounds=bounds[1]
    )
    board = TileBoard(attempt, 1_700_000_000.0)
    board.plan(TilesPlanned(grid=grid))
    changes = [
        TileChange(tile, 1, TileState.DONE, 60 + tile % 60, 30 + tile % 40)
        for tile in range(TILE_ROWS * TILE_COLS)
    ]
    board.change(TilesChanged(workers=("worker",), changes=encode_changes(changes)))
    found: dict[str, Any] = board.report().model_dump(mode="json", exclude_none=True)
    return found


def _tiles(page: Page, url: str) -> Figure:
    """Measure how long it takes to draw a large grid anew, in other colours."""
    total = TILE_ROWS * TILE_COLS
    processing = {
        "id": "p1", "product": "PRODUCT-01", "obs_id": "observation-0000", "provider": "maker",
        "state": "succeeded", "attempt": 1, "max_attempts": 1, "class": "live", "inputs": {},
        "progress": {"done": total, "total": total}, "error": None, "profile": None,
        "created": "2026-01-01T00:00:00Z", "requested": "2026-01-01T00:00:00Z",
        "started": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:01:00Z",
        "next_attempt": None, "code": None, "graph_version": 1, "campaign": None,
    }  # fmt: skip

    def answer(route: Route) -> None:
        path = route.request.url.partition("/processings/p1")[2]
        if path.startswith("/tiles"):
            route.fulfill(json=_tiles_of(1))
        elif path.startswith("/log"):
            route.fulfill(body="")
        else:
            route.fulfill(json=processing)

    page.route(re.compile("/api/conductor/processings/p1"), answer)
    page.goto(f"{url}/processings/p1")
    canvas = page.get_by_role("img", name=re.compile("^height: "))
    canvas.wait_for()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    colours = [page.get_by_role("button", name=name, exact=True) for name in ("time", "state")]
    for each in colours:
        each.click()
    drawn: list[float] = []
    idle: list[float] = []
    draws: list[float] = []
    for turn in range(DRAWS):
        # In turns: the stream goes on meanwhile, and what it costs is not the grid's.
        for clicked, times in ((True, drawn), (False, idle)):
            before = _metrics(session)["TaskDuration"]
            if clicked:
                colours[turn % 2].evaluate("each => each.click()")
            page.evaluate(_COUNT_FRAMES, WINDOW_S)
            times.append(_metrics(session)["TaskDuration"] - before)
        draws.append(float(canvas.get_attribute("data-drawn-ms") or "nan"))
    busy_s = statistics.median(drawn) - statistics.median(idle)
    return _figure(
        f"a grid of {total:,} tiles drawn in other colours",
        statistics.median(draws),
        "ms",
        Target("at most", 16),
        f"all that the page does for it: {1000 * busy_s:.0f} ms",
    )


async def _watch(url: str, seconds: float) -> None:
    """Follow the stream as many viewers, and read all that comes."""
    limits = httpx.Limits(max_connections=VIEWERS)

    async def view(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", f"{url}/stream") as response:
            async for _ in response.aiter_raw():
                pass

    async with httpx.AsyncClient(limits=limits, timeout=30) as client:
        tasks = [asyncio.create_task(view(client)) for _ in range(VIEWERS)]
        await asyncio.sleep(seconds)
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _viewers(url: str, seconds: float) -> Figure:
    """Measure what viewers cost the service, beside what it does for the changes alone."""
    process = _service()

    def share_of(watching: bool) -> float:
        before, began = sum(process.cpu_times()[:2]), time.perf_counter()
        if watching:
            asyncio.run(_watch(url, seconds))
        else:
            time.sleep(seconds)
        return float(100 * (sum(process.cpu_times()[:2]) - before) / (time.perf_counter() - began))

    alone = share_of(watching=False)
    return _figure(
        f"{VIEWERS} viewers of {CHANGES_PER_S} changes a second: the service",
        share_of(watching=True),
        "%",
        Target("at most", 20),
        f"nobody watches: {alone:.1f} %",
    )


def _service() -> psutil.Process:
    (found,) = (
        each
        for each in psutil.Process().children()
        if "benchmarks.dashboard.feed" in each.cmdline()
    )
    return found


def _bundle() -> Figure:
    size = sum(len(gzip.compress(each.read_bytes())) for each in FOLDER.iterdir())
    return _figure("the page, gzipped", size / 1000, "kB", Target("at most", 150))


def figures(*, quick: bool) -> list[Figure]:
    """Measure the page and its service."""
    if not (FOLDER / "app.js").exists():
        return [not_measured("the dashboard", "the page is not built: make web")]
    seconds = 20.0 if quick else 300.0
    sizes = [str(OBSERVATIONS), str(PRODUCTS), str(CHANGES_PER_S)]
    command = [sys.executable, "-m", "benchmarks.dashboard.feed", *sizes]
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        program(command, Path(folder) / "feed.log") as url,
    ):
        viewers = _viewers(url, min(seconds, 30.0))
        with opened_browser() as page:
            return [*_live(page, url, seconds), _tiles(page, url), _bundle(), viewers]
