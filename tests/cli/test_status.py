"""`batuta status`, of an orchestra that has processed much."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import FastAPI

from batuta.cli.app import run
from batuta.conductor.activity import ServiceRegistry
from batuta.conductor.campaign_runner import CampaignRunner
from batuta.conductor.database.current_graph import CurrentGraph
from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.hold_views import HoldViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.provider_views import ProviderViews
from batuta.conductor.decisions.events import Refused
from batuta.conductor.graph_changer import GraphChanger
from batuta.conductor.routes.api import add_routes
from batuta.conductor.routes.components import Components
from batuta.messaging import ProcessingState
from batuta.service.app import AppConfig, create_app
from batuta.service.settings import ServiceSettings
from tests.conductor.graphs import diamond
from tests.conductor.harness import Harness
from tests.support.databases import migrated_sqlite
from tests.support.services import serving

HEALTH: dict[str, bool | str] = {}
MANY = 12
FAILED = 3


@dataclass
class Served:
    """A conductor's routes alone."""

    app: FastAPI

    async def run(self) -> None:
        await asyncio.Event().wait()


@pytest.fixture
def conductor_url(tmp_path: Path) -> Iterator[str]:
    """A conductor that has heard of `MANY` observations, of which `FAILED` have failed."""
    harness = Harness(migrated_sqlite(tmp_path / "conductor.db"), diamond())
    for number in range(MANY):
        for request in harness.on_data(("A", f"o{number:02}", 1)):
            if number < FAILED:
                harness.apply(Refused(processing_id=request.processing_id, error="not here"))
            else:
                harness.report(request, ProcessingState.SUCCEEDED)
        harness.clock.advance(1)
    parts: dict[str, Any] = {field.name: None for field in fields(Components)}
    parts |= {
        "current_graph": CurrentGraph(harness.graph),
        "views": harness.views,
        "registry": ServiceRegistry(),
    }
    parts["late"] = LateViews(harness.engine)
    parts["events"] = EventViews(harness.engine, harness.current, harness.views)
    parts["holds"] = HoldViews(harness.engine, harness.ledger.holds)
    none = cast("Any", None)
    # Nothing of campaigns is asked: only their routes are added.
    parts["campaigns"] = SimpleNamespace(views=none)
    parts["graph_changer"] = GraphChanger(harness.engine, harness.versions, none, none, none, none)
    parts["campaigns"] = CampaignRunner(
        harness.campaigns, harness.graph, none, none, none, asyncio.Event()
    )
    parts["provider_views"] = ProviderViews(
        harness.engine, harness.graph, harness.ledger.circuits.instances_of
    )

    parts["stops"] = harness.ledger.stops

    @asynccontextmanager
    async def open_it(_settings: ServiceSettings, _url: str) -> AsyncIterator[Served]:
        app = create_app(AppConfig(name="conductor", description="", checks=lambda: HEALTH))
        add_routes(app, Components(**parts))
        yield Served(app)

    with serving(open_it, ServiceSettings(port=0)) as url:
        yield url
    harness.close()


def test_the_latest_are_shown_and_all_are_counted(
    conductor_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["status", "--conductor-url", conductor_url]
    assert run([*command, "--limit", "2"]) == 0
    shown = capsys.readouterr().out
    assert "12 observations; the latest 2" in shown
    assert "o11" in shown
    assert "o05" not in shown
    assert "Processings that need attention (2 of 6)" in shown
    assert run([*command, "--limit", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["obs_id"] for each in found["observations"]] == ["o11", "o10"]
    assert found["summary"]["observations"] == MANY
    assert found["summary"]["processings"] == {"failed": 6, "succeeded": 18}
    assert run(command) == 0
    shown = capsys.readouterr().out
    assert "12 observations" in shown
    assert "latest" not in shown


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nats", "nats: it broke; the states of services below are out of date"),
        ("tokens", "it broke\n"),
    ],
)
def test_what_is_unhealthy_is_told_and_what_that_makes_of_the_states(
    conductor_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    said: str,
) -> None:
    monkeypatch.setitem(HEALTH, what, "it broke")
    assert run(["status", "--conductor-url", conductor_url]) == 0
    assert said in capsys.readouterr().out
