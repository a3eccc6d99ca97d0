"""The page of a processing shows its tiles, in a real browser, as they fill."""

import re
from typing import Any

from playwright.sync_api import Page, expect

from batuta.pipeline.messages import TilesChanged, TilesPlanned
from batuta.pipeline.tile_board import TileBoard
from batuta.pipeline.tile_codes import TileChange, TileGridRecord, TileState, encode_changes
from tests.conductor.stage import one_processing
from tests.dashboard.conftest import Watched
from tests.dashboard.page import opened
from tests.support.waiting import eventually_sync

BOUNDS = (0, 16, 16, 32, 32, 48, 48, 64)
GRID = TileGridRecord(dataset="height", rows=4, cols=4, row_bounds=BOUNDS, col_bounds=BOUNDS)


def changed(state: TileState, *tiles: int) -> TilesChanged:
    changes = [TileChange(tile, 1, state, 81, 41) for tile in tiles]
    return TilesChanged(workers=("process 4711",), changes=encode_changes(changes))


def told(board: TileBoard) -> dict[str, Any]:
    found: dict[str, Any] = board.report().model_dump(mode="json", exclude_none=True)
    return found


def test_tiles_fill_as_they_are_computed(watched: Watched) -> None:
    stage = watched.stage
    stage.pipeline.outcomes["B"].append("running")
    stage.announce("A", "o1")
    number = eventually_sync(one_processing(watched.conductor_url))["id"]
    eventually_sync(stage.asked_for)
    stage.pipeline.processings[number]["progress"] = {"done": 1, "total": 16}
    board = TileBoard(1, 1_700_000_000.0)
    board.plan(TilesPlanned(grid=GRID))
    board.change(changed(TileState.RUNNING, 0))
    stage.pipeline.tiles[number] = told(board)

    with opened() as page:
        check_tiles(page, watched, number, board)


def check_tiles(page: Page, watched: Watched, number: str, board: TileBoard) -> None:
    pipeline = watched.stage.pipeline

    # The bar of progress comes with activity, which a scripted pipeline does not publish.
    def with_progress(route: Any) -> None:
        answer = route.fetch(max_retries=3)  # a connection that was kept may just be closed
        route.fulfill(response=answer, json=answer.json() | {"progress": {"done": 1, "total": 16}})

    page.route(re.compile(f"/api/conductor/processings/{number}$"), with_progress)
    page.goto(f"{watched.url}/processings/{number}")
    grid = page.get_by_role("img", name=re.compile("^height: "))
    expect(grid).to_have_attribute("aria-label", "height: 15 waiting, 1 running")
    expect(page.get_by_text("Running: row 0, column 0 on process 4711")).to_be_visible()
    board.change(changed(TileState.DONE, *range(15)))
    board.change(changed(TileState.FAILED, 15))
    pipeline.tiles[number] = told(board)
    expect(grid).to_have_attribute("aria-label", "height: 15 done, 1 failed")
    page.get_by_role("application").press("ArrowRight")
    expect(page.get_by_text("row 0, column 0: done, process 4711, 1.0 s, 34 MB")).to_be_visible()
    page.get_by_role("button", name="time").click()
    expect(page).to_have_url(re.compile(r"tiles=time$"))
