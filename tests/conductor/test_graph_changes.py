"""A graph that is put in force in a running conductor: by commands and by REST, killed half-way."""

import asyncio
import json
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from batuta.cli.app import run
from batuta.cli.live.view import watch
from batuta.conductor.service import open_conductor
from batuta.graph import Graph
from batuta.messaging import NatsConfig
from tests.conductor.graphs import graph_of
from tests.conductor.stage import Stage, eventually_in, get
from tests.support.services import ServiceProcess, serving
from tests.support.waiting import eventually, eventually_sync

OLD = graph_of(["A"], {"B": {"m_input": ["A"]}})
NEW = graph_of(["A", "X"], {"B": {"m_input": ["A"], "due": 6000}, "C": {"m_input": ["X"]}})


@pytest.fixture
def conductor(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A running conductor of `OLD`; commands ask it."""
    monkeypatch.setenv("BATUTA_OPERATOR", "ana")
    with serving(open_conductor, stage.settings(OLD)) as url:
        monkeypatch.setenv("BATUTA_CONDUCTOR_URL", url)
        yield url


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Graph], str]:
    def to_file(graph: Graph) -> str:
        path = tmp_path / "new.json"
        path.write_text(json.dumps(graph.as_document()))
        return str(path)

    return to_file


def test_a_new_graph_is_previewed_put_in_force_and_taken_back(
    stage: Stage,
    conductor: str,
    write: Callable[[Graph], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    stage.archive("A", "o1")
    stage.archive("X", "o1")  # of which the conductor's graph knows nothing
    stage.archive("X", "o2")
    eventually_in(conductor, {"B/o1": "succeeded"})
    difference = [
        "input X: added",
        "product B: due null -> 6000.0",
        "product C: added",
        "can be made from now on: C",
    ]
    counted = [
        "to be recorded from the sdb: X 2",
        "to be started at once: C 2",
        "in all of 2 observations",
    ]
    capsys.readouterr()
    for command in (["diff"], ["apply", "--dry-run"]):
        assert run(["graph", *command, write(NEW)]) == 0
        assert capsys.readouterr().out.splitlines() == [*difference, *counted]
    assert get(conductor, "/graph") == OLD.as_document()

    assert run(["graph", "apply", write(NEW), "--note", "adds C"]) == 0
    back = "version 2 is in force; batuta graph apply --version 1 goes back"
    assert capsys.readouterr().out.splitlines() == [*difference, back]
    eventually_in(conductor, dict.fromkeys(("B/o1", "C/o1", "C/o2"), "succeeded"))
    assert run(["graph", "apply", write(NEW)]) == 0
    assert capsys.readouterr().out == "no difference: version 2 stays in force\n"
    # What comes from now on is decided by it.
    stage.archive("X", "o3")
    eventually_in(conductor, dict.fromkeys(("B/o1", "C/o1", "C/o2", "C/o3"), "succeeded"))

    assert run(["graph", "apply", "--version", "1"]) == 0
    assert get(conductor, "/graph") == OLD.as_document()
    listed = get(conductor, "/graph/versions")["items"]
    assert [(each["number"], each["by"], each["note"]) for each in listed[:2]] == [
        (3, "operator ana (claimed)", "back to version 1"),
        (2, "operator ana (claimed)", "adds C"),
    ]
    capsys.readouterr()
    assert run(["graph", "versions", "2"]) == 0
    assert json.loads(capsys.readouterr().out) == NEW.as_document()
    dropped = (
        "C is not made by version 3 of the graph, now in force (version 3 dropped it; batuta graph "
        "apply --version 2 goes back, or apply a graph that makes it)"
    )
    for order in ("make", "retry"):
        assert run([order, "C", "o1"]) == 1
        assert dropped in " ".join(capsys.readouterr().err.split())
    orders = get(conductor, "/orders")["items"]
    assert [each["command"] for each in orders] == ["graph apply"] * 2


async def test_a_new_graph_is_shown_by_watch(
    stage: Stage, conductor: str, write: Callable[[Graph], str]
) -> None:
    shown = StringIO()
    console = Console(file=shown, width=200)

    async def follows() -> bool:
        await asyncio.to_thread(stage.archive, "A", "o1")
        return "A v" in shown.getvalue()

    async def tells() -> bool:
        expected = "version 2 of the graph is in force, by operator ana (claimed): adds C"
        return expected in shown.getvalue()

    watching = asyncio.create_task(watch(NatsConfig(url=stage.nats.url), conductor, console))
    try:
        await eventually(follows)
        await asyncio.to_thread(run, ["graph", "apply", write(NEW), "--note", "adds C"])
        await eventually(tells)
    finally:
        watching.cancel()
        await asyncio.wait([watching])


WRONG = {"inputs": ["A"], "products": {"B": {"m_input": ["Z"]}, "C": {"m_input": []}}}


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({}, 422, "graph, version: neither given (accepted: one of them)"),
    ({"graph": {}, "version": 1}, 422, "graph, version: both given"),
    ({"graph": WRONG}, 422, "graph: products.B.m_input: 'Z' is unknown"),
    ({"version": 7}, 404, "version 7 of the graph: not found (accepted: 1 to 1)"),
    ({"version": 0}, 422, "version"),
    ({"version": 1, "graf": {}}, 422, "graf"),
    ({"version": 1, "instead_of": 4}, 409, "version 4 of the graph is not in force"),
    ({"version": 1, "class": "soon"}, 422, "class"),
    ({"version": 1, "note": ""}, 422, "note"),
]


def test_a_graph_that_is_refused_changes_nothing(conductor: str) -> None:
    for body, status, problem in REFUSED:
        answer = httpx.post(f"{conductor}/graph/versions", json=body)
        assert (answer.status_code, problem in answer.json()["detail"]) == (status, True), body
    problems = httpx.post(f"{conductor}/graph/preview", json={"graph": WRONG}).json()["problems"]
    assert len(problems) > 3
    assert all(each.startswith("graph: products.") for each in problems)
    assert get(conductor, "/graph") == OLD.as_document()
    assert len(get(conductor, "/graph/versions")["items"]) == 1


def test_killed_while_it_settles_a_graph_all_is_started_and_nothing_twice(stage: Stage) -> None:
    settings = stage.settings(OLD)
    stage.conductor = ServiceProcess("batuta.conductor:run", settings)
    url = stage.conductor.start()
    httpx.post(f"{url}/hold").raise_for_status()
    names = [f"o{number:03}" for number in range(350)]
    stage.announce("A", *names)
    eventually_sync(lambda: get(url, "/summary")["processings"] == {"held": len(names)})
    more = graph_of(["A"], {"B": {"m_input": ["A"]}, "E": {"m_input": ["A"]}})
    answer = httpx.post(f"{url}/graph/versions", json={"graph": more.as_document()})
    assert answer.status_code == 201
    stage.conductor.kill()
    url = stage.conductor.start()
    assert get(url, "/graph") == more.as_document()
    eventually_sync(lambda: get(url, "/graph/versions/2")["settled"])
    assert get(url, "/summary")["processings"] == {"held": 2 * len(names)}
