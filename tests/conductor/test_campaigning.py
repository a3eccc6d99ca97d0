"""Campaigns of a running conductor: by commands and by REST."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from batuta.cli.app import run
from batuta.conductor.service import open_conductor
from tests.conductor.graphs import graph_of
from tests.conductor.stage import Stage, eventually_in, get
from tests.support.services import serving
from tests.support.waiting import eventually_sync

GRAPH = graph_of(["A"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["B"]}})


@pytest.fixture
def conductor(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A running conductor that has made all of two observations; commands ask it."""
    monkeypatch.setenv("BATUTA_OPERATOR", "ana")
    with serving(open_conductor, stage.settings(GRAPH)) as url:
        monkeypatch.setenv("BATUTA_CONDUCTOR_URL", url)
        stage.archive("A", "o1")
        stage.archive("A", "o2")
        eventually_in(url, dict.fromkeys(("B/o1", "C/o1", "B/o2", "C/o2"), "succeeded"))
        yield url


def test_a_campaign_is_planned_started_and_reported(
    stage: Stage, conductor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(stage.archived())
    capsys.readouterr()
    assert run(["campaign", "plan", "--product", "B", "--downstream", "--name", "gain"]) == 0
    shown = capsys.readouterr().out
    assert "campaign 1 (gain): 4 processings of 2 observations (2 looked at)" in shown
    assert "start it: batuta campaign start 1" in shown
    assert run(["campaign", "start", "1"]) == 0
    eventually_sync(lambda: get(conductor, "/campaigns/1")["state"] == "done")
    assert len(stage.archived()) == before + 4
    capsys.readouterr()
    assert run(["campaign", "report", "1"]) == 0
    assert "campaign 1 (gain): done at " in capsys.readouterr().out
    assert run(["campaign", "show", "1", "--state", "awaiting"]) == 0
    assert run(["campaign", "start", "1"]) == 1
    assert "cannot start it (it has ended)" in capsys.readouterr().err


def test_a_plan_that_makes_nothing_says_so_and_is_not_to_be_started(
    conductor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for order in (["--only", "stale"], ["--only", "missing", "--product", "C"]):
        capsys.readouterr()
        assert run(["campaign", "plan", *order]) == 0
        shown = capsys.readouterr().out
        assert "nothing is to be made: there is nothing to start" in shown
        assert "campaign start" not in shown
    assert run(["campaign", "start", "2"]) == 1
    assert capsys.readouterr().err.endswith(
        " campaign 2 is done: cannot start it (it has ended: nothing is to be made)\n"
    )
    report = get(conductor, "/campaigns/2/report")
    assert (report["state"], report["reason"]) == ("done", "nothing is to be made")
    assert get(conductor, "/campaigns?state=planned")["items"] == []


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "products: none given, with scope all"),
    ({"scope": "old"}, "scope"),
    ({"products": ["b"]}, "products: 'b': not in the graph"),
    ({"products": ["A"]}, "products: A is an input"),
    ({"products": ["B"], "obs": ["o1"]}, "obs"),
    ({"products": ["B"], "max_concurrent": 0}, "max_concurrent"),
    (
        {"products": ["B"], "since": "2026-01-02T00:00Z", "until": "2026-01-01T00:00Z"},
        "until",
    ),
]


def test_a_plan_that_is_refused_changes_nothing(conductor: str) -> None:
    for body, problem in REFUSED:
        answer = httpx.post(f"{conductor}/campaigns", json=body)
        assert (answer.status_code, problem in answer.json()["detail"]) == (422, True), body
    assert get(conductor, "/campaigns")["items"] == []
    assert httpx.post(f"{conductor}/campaigns/9/start").status_code == 404
    assert httpx.get(f"{conductor}/campaigns/1/items?state=lost").status_code == 422
