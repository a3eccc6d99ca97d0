"""The demonstration's scenario, whoever else gives orders meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from batuta.cli.conductor_client import ConductorClient
from batuta.cli.demonstration.scenario import APPROVED, JUDGED, REASON, REPROCESSED, Scenario
from tests.conductor.graphs import graph_of
from tests.conductor.stage import ANSWER_S, get, states
from tests.dashboard.conftest import Watched, playing
from tests.support.servers import NatsServer
from tests.support.waiting import eventually

GRAPH = graph_of(
    ["A", "E"],
    {
        **{name: {"m_input": ["A"]} for name in JUDGED},
        APPROVED: {"m_input": ["A"], "approval": "before"},
        **{name: {"m_input": ["E"]} for name in REPROCESSED},
    },
)


@dataclass(frozen=True)
class Observation:
    """As the demonstration's own."""

    obs_id: str
    files: Mapping[str, Path]
    title: str = "an observation"
    preliminary: Mapping[str, Path] = field(default_factory=dict)
    alert: bool = False


@pytest.fixture
def orchestra(tmp_path: Path, own_nats: NatsServer) -> Iterator[Watched]:
    with playing(tmp_path, own_nats, {"graph": GRAPH}) as watched:
        yield watched


@asynccontextmanager
async def played(
    orchestra: Watched, folder: Path
) -> AsyncIterator[tuple[Scenario, asyncio.Task[None]]]:
    """Play a pair, a series of events, and an alert."""
    files = {}
    for name in ("pair", "events", "alert"):
        files[name] = folder / f"{name}.txt"
        files[name].write_text(name)
    scenario = Scenario(
        orchestra.conductor_url,
        orchestra.stage.sdb_url,
        GRAPH,
        [
            Observation("pair", {"A": files["pair"]}),
            Observation("events", {"E": files["events"]}),
            Observation("alert", {"E": files["alert"]}, alert=True),
        ],
        log=lambda _line: None,
        pause=lambda: asyncio.sleep(0.02),
    )
    task = asyncio.create_task(scenario.play())
    try:
        yield scenario, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_waits_for_an_approval_is_approved_and_the_alert_comes_after_the_campaign(
    orchestra: Watched, tmp_path: Path
) -> None:
    async with played(orchestra, tmp_path) as (scenario, task), asyncio.timeout(ANSWER_S):
        await task
        assert scenario.awaited == []
    report = get(orchestra.conductor_url, "/report")
    assert [each["reason"] for each in report["answers"]["items"]] == [REASON]
    assert get(orchestra.conductor_url, "/campaigns/1")["state"] == "done"
    assert f"{REPROCESSED[0]}/alert" in states(orchestra.conductor_url)


async def test_a_viewer_who_answers_first_does_not_hold_it_up(
    orchestra: Watched, tmp_path: Path
) -> None:
    # What is looked at before the approval is there only once the viewer has answered.
    outcomes = orchestra.stage.pipeline.outcomes
    for name in JUDGED:
        outcomes[name].append("running")
    async with played(orchestra, tmp_path) as (scenario, task), asyncio.timeout(ANSWER_S):
        waited_for = f"{', '.join(JUDGED)} of pair"
        await eventually(lambda: asyncio.sleep(0, waited_for in scenario.awaited), ANSWER_S)
        with ConductorClient(orchestra.conductor_url, operator="viewer") as viewer:
            item = {"product": APPROVED, "obs_id": "pair"}
            [answer] = await asyncio.to_thread(viewer.answer, "approve", [item], "seen")
        assert answer["problem"] is None
        for each in list(orchestra.stage.pipeline.processings.values()):
            if each["product"] in JUDGED:
                await asyncio.to_thread(orchestra.stage.pipeline.end, each["id"], "succeeded")
        await task
    report = get(orchestra.conductor_url, "/report")
    assert [each["reason"] for each in report["answers"]["items"]] == ["seen"]


async def test_what_does_not_come_is_named_once_it_is_stopped(
    orchestra: Watched, tmp_path: Path
) -> None:
    orchestra.stage.pipeline.outcomes[REPROCESSED[0]].append("running")
    async with played(orchestra, tmp_path) as (scenario, task), asyncio.timeout(ANSWER_S):
        left = [f"all {len(REPROCESSED)} products of events"]
        await eventually(lambda: asyncio.sleep(0, scenario.awaited == left), ANSWER_S)
        assert not task.done()
