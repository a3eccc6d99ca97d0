"""``GET /summary``: all that it counts is of one moment."""

import itertools
import threading

import httpx
import sqlalchemy as sa

from batuta.conductor.service import open_conductor
from batuta.service.database import READ_ONLY
from tests.conductor.graphs import graph_of
from tests.conductor.stage import Stage, get
from tests.support.services import serving
from tests.support.waiting import eventually_sync

GRAPH = graph_of(["A"], {"B": {"m_input": ["A"], "approval": "before"}})


class _Approval:
    """Is given after a number of statements of an answer; those of others are not counted."""

    def __init__(self, url: str, obs_id: str, after: int) -> None:
        self._url = url
        self._obs_id = obs_id
        self._left = after
        self.is_given = False

    def on_statement(self, connection: sa.Connection, *_: object) -> None:
        answers = threading.current_thread().name.startswith("AnyIO")
        if self.is_given or not answers or not connection.get_execution_options().get(READ_ONLY):
            return
        self._left -= 1
        if self._left == 0:
            self.is_given = True
            items = [{"product": "B", "obs_id": self._obs_id}]
            given = httpx.post(f"{self._url}/approvals/approve", json={"items": items}, timeout=60)
            assert given.json()["items"][0]["problem"] is None


def test_what_is_approved_meanwhile_waits_for_a_person_in_each_number_or_in_none(
    stage: Stage,
) -> None:
    with serving(open_conductor, stage.settings(GRAPH)) as url:
        for number in itertools.count(1):
            obs_id = f"o{number}"
            stage.archive("A", obs_id)
            eventually_sync(lambda: get(url, "/summary")["to_approve"] == 1)
            approval = _Approval(url, obs_id, number)
            sa.event.listen(sa.Engine, "after_cursor_execute", approval.on_statement)
            try:
                told = get(url, "/summary")
            finally:
                sa.event.remove(sa.Engine, "after_cursor_execute", approval.on_statement)
            assert told["to_approve"] == told["processings"].get("unapproved", 0)
            if not approval.is_given:
                break
            eventually_sync(lambda: get(url, "/summary")["to_approve"] == 0)
        assert number > 3
