"""The commands that list and answer what waits for a person."""

import io
import json

import httpx
import pytest

from batuta.cli.app import run
from batuta.conductor.service import open_conductor
from tests.conductor.graphs import graph_of
from tests.conductor.stage import Stage, eventually_in, get
from tests.support.services import serving
from tests.support.waiting import eventually_sync

GRAPH = graph_of(
    ["A"],
    {"B": {"m_input": ["A"], "approval": "before"}, "C": {"m_input": ["B"]}},
)


@pytest.mark.usefixtures("wide_terminal")
def test_what_waits_is_listed_approved_and_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setenv("BATUTA_OPERATOR", "night shift")
    with serving(open_conductor, stage.settings(GRAPH)) as url:
        monkeypatch.setenv("BATUTA_CONDUCTOR_URL", url)
        assert run(["approvals"]) == 0
        assert capsys.readouterr().out == "nothing waits for approval\n"
        for obs_id in ("o1", "o2", "o3"):
            stage.archive("A", obs_id)
        eventually_sync(lambda: len(get(url, "/approvals")["items"]) == 3)
        assert run(["status"]) == 0
        shown = capsys.readouterr().out
        assert "3 waiting for approval: see batuta approvals" in shown
        assert "unapproved" in shown
        metrics = httpx.get(f"{url}/metrics").text
        assert 'batuta_to_approve{gate="before"} 3.0' in metrics
        assert 'batuta_to_approve{gate="after"} 0.0' in metrics
        assert run(["approvals", "--obs-id=o1"]) == 0
        assert "A=1" in capsys.readouterr().out

        assert run(["approve", "B", "o1", "--version=A=2"]) == 1
        problem = "batuta: B of o1: version A=2 does not wait for approval (A=1 does)\n"
        assert capsys.readouterr().err == problem
        assert run(["approve", "B", "o1", "--version=A=1", "--json"]) == 0
        (answer,) = json.loads(capsys.readouterr().out)
        assert answer["approval"]["by"] == "operator night shift (claimed)"
        made = dict.fromkeys(("B/o1", "C/o1"), "succeeded")
        eventually_in(url, made | dict.fromkeys(("B/o2", "B/o3"), "unapproved"))
        assert run(["approve", "B", "o1"]) == 1
        assert "nothing waits for approval: version A=1 was approved" in capsys.readouterr().err

        assert run(["refuse", "--product=B", "--reason=bad seeing"]) == 2
        assert "2 approvals selected: give --yes to refuse them all" in capsys.readouterr().err
        assert run(["refuse", "--product=B", "--reason=bad seeing", "--yes"]) == 0
        eventually_in(url, made | dict.fromkeys(("B/o2", "B/o3"), "cancelled"))
        capsys.readouterr()
        assert run(["events", "--orders"]) == 0
        listed = capsys.readouterr().out
        assert listed.count("refuse") == 2
        assert "bad seeing" in listed
        body = {"items": [{"product": "B", "obs_id": "o2"}]}
        assert httpx.post(f"{url}/approvals/refuse", json=body).status_code == 422
        answered = httpx.post(f"{url}/approvals/approve", json=body | {"why": "x"})
        assert answered.status_code == 422
        assert "why" in answered.text


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["approve"], "nothing given"),
        (["approve", "B"], "B given"),
        (["approve", "B", "o1", "--obs-id=o1"], "B o1 --obs-id given"),
        (["approve", "--product=B", "--version=1"], "--product --version given"),
    ],
)
def test_what_selects_nothing_clear_is_refused(
    arguments: list[str], given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert f"batuta: {given} (accepted: PRODUCT OBS_ID" in capsys.readouterr().err


def test_a_refusal_needs_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["refuse", "B", "o1"]) == 2
    assert "--reason" in capsys.readouterr().err
