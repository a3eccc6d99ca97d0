"""The processings of an observation along time, some of them days after the others."""

import contextlib
import sqlite3

import httpx
from playwright.sync_api import expect

from tests.conductor.stage import eventually_in
from tests.dashboard.conftest import Watched
from tests.dashboard.page import opened
from tests.support.waiting import eventually_sync

EARLIER = """
UPDATE conductor_processings
SET created = created - 259200, started = created - 259199, ended = created - 259189
"""


def test_what_is_made_again_days_later_leaves_room_for_what_was_made_first(
    watched: Watched,
) -> None:
    watched.stage.archive("A", "o1")
    eventually_in(watched.conductor_url, {"B/o1": "succeeded", "C/o1": "succeeded"})
    path = watched.stage.folder / "conductor.db"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(EARLIER)
    body = {"product": "B", "obs_id": "o1"}
    httpx.post(f"{watched.conductor_url}/processings", json=body, timeout=30).raise_for_status()
    eventually_sync(lambda: ("B", "o1", 2) in watched.stage.archived())
    with opened() as page:
        page.goto(f"{watched.url}/observations/o1")
        timeline = page.get_by_role("group", name="Timeline of processings")
        expect(timeline.get_by_text("+3.0 d")).to_be_visible()
        first = timeline.get_by_role("link").first.locator("rect").bounding_box()
    assert first is not None
    assert first["width"] > 100, "of 10 s, beside 3 days it would be as narrow as can be seen"
