"""An operator's commands: one bad item does not stop the others, several are asked for."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from batuta.cli.app import run
from batuta.cli.conductor_client import ConductorClient
from batuta.cli.requests.waiting import follow
from batuta.conductor.service import open_conductor
from tests.conductor.graphs import graph_of
from tests.conductor.stage import Stage, eventually_in, get
from tests.support.services import serving
from tests.support.waiting import eventually_sync

CHAIN = graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 2}, "C": {"m_input": ["B"]}})


@pytest.fixture
def conductor(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A running conductor of the chain A, B, C; commands ask it."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setenv("BATUTA_SDB_URL", stage.sdb_url)
    with serving(open_conductor, stage.settings(CHAIN)) as url:
        monkeypatch.setenv("BATUTA_CONDUCTOR_URL", url)
        yield url


def versions(url: str, obs_id: str) -> dict[str, int | None]:
    products = get(url, f"/observations/{obs_id}")["products"]
    return {each["product"]: each["version"] for each in products}


def test_an_import_is_waited_for_until_all_that_follows_is_made(
    conductor: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text("a")
    assert run(["import", "--product=A", "--obs-id=o1", str(tmp_path / "a"), "--wait"]) == 0
    assert versions(conductor, "o1") == {"A": 1, "B": 1, "C": 1}
    assert "2 products made in " in capsys.readouterr().err


def test_an_import_of_which_something_fails_says_what_and_why(
    stage: Stage, conductor: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text("a")
    stage.pipeline.outcomes["B"].extend(["failed"] * 20)
    arguments = ["import", "--product=A", "--obs-id=o1", str(tmp_path / "a"), "--wait"]
    assert run(arguments) == 1
    shown = capsys.readouterr().err
    assert "B: failed: scripted" in shown
    assert "batuta: B: not made" in shown
    assert conductor


def test_all_that_follows_is_remade_in_order_each_once(stage: Stage, conductor: str) -> None:
    stage.archive("A", "o1")
    eventually_in(conductor, dict.fromkeys(("B/o1", "C/o1"), "succeeded"))
    assert run(["make", "B", "o1", "--downstream"]) == 0
    assert versions(conductor, "o1") == {"A": 1, "B": 2, "C": 2}
    inputs = get(conductor, "/why/C/o1")["processings"][-1]["inputs"]
    assert inputs == {"B": 2}


@pytest.mark.parametrize("on_update", ["ignore", "reprocess"])
def test_what_cannot_be_remade_does_not_stop_what_does_not_need_it(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    on_update: str,
) -> None:
    # C lacks X; D does not need C, and comes after it.
    products: dict[str, dict[str, object]] = {
        "B": {"m_input": ["A"]},
        "C": {"m_input": ["B", "X"], "on_update": on_update},
        "D": {"m_input": ["B"]},
    }
    with serving(open_conductor, stage.settings(graph_of(["A", "X"], products))) as url:
        monkeypatch.setenv("BATUTA_CONDUCTOR_URL", url)
        stage.archive("A", "o1")
        eventually_in(url, dict.fromkeys(("B/o1", "D/o1"), "succeeded"))
        assert run(["make", "B", "o1", "--downstream"]) == 1
        assert versions(url, "o1") == {"A": 1, "B": 2, "C": None, "D": 2}
        shown = capsys.readouterr().err
    assert "batuta: C of o1: " in shown
    assert "X" in shown


def test_several_processings_need_a_yes_and_one_bad_one_does_not_stop_the_others(
    stage: Stage, conductor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for obs_id in ("o1", "o2"):
        stage.archive("A", obs_id)
    eventually_in(conductor, dict.fromkeys(("B/o1", "C/o1", "B/o2", "C/o2"), "succeeded"))
    assert run(["make", "--product=B", "--obs-id=o*"]) == 2
    shown = capsys.readouterr()
    assert shown.err == "batuta: 2 processings selected: give --yes to make them all\n"
    assert "B of o1: succeeded" in shown.out
    assert versions(conductor, "o1")["B"] == 1
    assert run(["make", "--product=B", "--obs-id=o*", "--yes"]) == 0
    eventually_sync(lambda: versions(conductor, "o1")["B"] == versions(conductor, "o2")["B"] == 2)


def test_one_that_cannot_be_made_does_not_stop_the_others(stage: Stage, conductor: str) -> None:
    stage.archive("A", "o1")
    eventually_in(conductor, dict.fromkeys(("B/o1", "C/o1"), "succeeded"))
    orders = [{"product": p, "obs_id": o} for p, o in (("B", "o9"), ("Z", "o1"), ("B", "o1"))]
    answer = httpx.post(f"{conductor}/processings/make", json={"items": orders})
    problems = [each["problem"] for each in answer.raise_for_status().json()["items"]]
    assert problems == [
        "B of o9: inputs that it needs are not available: A",
        "product 'Z': not in the graph (known: B, C)",
        None,
    ]
    ids = ["nowhere", get(conductor, "/why/C/o1")["processings"][-1]["id"]]
    answer = httpx.post(f"{conductor}/processings/retry", json={"ids": ids})
    first, second = answer.raise_for_status().json()["items"]
    assert first["problem"] == "processing 'nowhere': not found"
    assert "is succeeded (only what failed" in second["problem"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("make", {"items": []}),
        ("make", {"items": [{"product": "B"}]}),
        ("retry", {"ids": []}),
        ("retry", {"ids": ["a"] * 1001}),
        ("cancel", {"id": "a"}),
        ("reprioritize", {"ids": ["a"]}),
        ("reprioritize", {"ids": ["a"], "class": "urgent"}),
        ("reprioritize", {"ids": ["a"], "priority": 1.5}),
        ("reprioritize", {"ids": ["a"], "to_priority": 1}),
    ],
)
def test_a_body_that_is_wrong_is_refused(conductor: str, path: str, body: object) -> None:
    assert httpx.post(f"{conductor}/processings/{path}", json=body).status_code == 422


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["retry"], 2, "0 arguments given (accepted: ID, or PRODUCT OBS_ID"),
        (["retry", "a", "b", "c"], 2, "3 arguments given"),
        (["retry", "B", "o1", "--failed"], 2, "B o1 and filters given"),
        (["retry", "B", "o1", "--since=2h"], 2, "B o1 and filters given"),
        (["cancel", "--state=succeeded"], 1, "state: succeeded cannot be ordered to cancel"),
        (["cancel", "--state=asleep"], 1, "state"),
        (["cancel", "--class=backfill"], 1, "class backfill: no processing to cancel"),
        (["cancel", "--campaign=7"], 1, "campaign 7: no processing to cancel"),
        (["reprioritize", "B", "o1"], 2, "nothing to change given (accepted: --to-class, --to-pr"),
        (["reprioritize", "--to-priority=1"], 2, "0 arguments given (accepted: ID, or PRODUCT"),
        (["reprioritize", "x", "--to-priority=1"], 1, "processing 'x': not found"),
        (
            ["reprioritize", "--product=B", "--to-priority=9999999"],
            1,
            "priority: Input should be less than or equal to 1000000",
        ),
        (
            ["reprioritize", "--state=running", "--to-class=alert"],
            1,
            "state: running cannot be ordered to reprioritize (accepted: unapproved, waiting,",
        ),
        (["retry", "--stage=early"], 2, "--stage: 'early' is no stage (accepted: preliminary,"),
        (["retry", "B", "o1", "--stage=final"], 2, "B o1 and filters given"),
        (["processings", "--stage=0"], 2, "--stage: 0 is no stage (accepted: preliminary, final"),
        (["processings", "--state=asleep"], 1, "state: Input should be 'unapproved', 'waiting'"),
        (["processings", "--since=soon"], 2, "--since 'soon': no such time"),
        (["status", "--stage=early"], 2, "--stage: 'early' is no stage (accepted: preliminary,"),
        (["retry", "--failed"], 1, "all: no processing that is failed or retrying"),
        (["retry", "nowhere"], 1, "processing 'nowhere': not found"),
        (["cancel", "BB", "o1"], 1, "product 'BB': not in the graph (did you mean 'B'?)"),
        (["make", "A", "o1"], 1, 'A is an input: it comes by "batuta import"'),
        (["log", "C", "o9"], 1, "C of o9: no processing: C was not made"),
        (["log"], 2, "no processing given (accepted: ID, or PRODUCT OBS_ID)"),
        (["log", "x", "-f", "--workers"], 2, "--workers with --follow"),
    ],
)
@pytest.mark.usefixtures("conductor")
def test_what_selects_nothing_is_told_in_one_line(
    arguments: list[str], code: int, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert problem in line


@pytest.mark.usefixtures("wide_terminal")
def test_processings_are_listed_by_filters(
    stage: Stage, conductor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.archive("A", "o1")
    stage.archive("A", "o2")
    eventually_in(conductor, {f"{p}/{o}": "succeeded" for p in "BC" for o in ("o1", "o2")})
    assert run(["processings", "--product=B", "--class=live", "--state=succeeded"]) == 0
    shown = capsys.readouterr().out
    assert [shown.count(f" {word} ") for word in ("o1", "o2", "B", "C", "live")] == [1, 1, 2, 0, 2]
    listed = ["processings", "--state=succeeded", "--state=failed", "--json"]
    assert run([*listed, "--limit=3"]) == 0
    newest = json.loads(capsys.readouterr().out)
    assert len(newest) == 3
    assert newest == sorted(newest, key=lambda each: each["created"], reverse=True)
    assert run(["processings", "--campaign=1"]) == 0
    assert "succeeded" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("class=urgent", "class: Input should be 'alert', 'live', 'reprocess' or 'backfill'"),
        ("stage=early", "stage: 'early' is no stage (accepted: preliminary, final, or a whole"),
        ("stage=0", "stage: 0 is no stage"),
        ("campaign=0", "campaign: Input should be greater than or equal to 1"),
        ("campaign=x", "campaign: Input should be a valid integer"),
        ("work_class=live", "work_class"),
    ],
)
def test_a_filter_that_is_wrong_is_refused(conductor: str, query: str, problem: str) -> None:
    answer = httpx.get(f"{conductor}/processings?{query}")
    assert answer.status_code == 422
    assert problem in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"command": "cancel", "class": "alert"}, "class: cancel takes none (accepted: with repri"),
        ({"command": "retry", "priority": 1}, "priority: retry takes none (accepted: with repri"),
        ({"command": "promote"}, "command: Input should be 'cancel', 'retry' or 'reprioritize'"),
    ],
)
@pytest.mark.parametrize("path", ["/orders", "/orders/preview"])
def test_an_order_that_is_wrong_is_refused(
    conductor: str, path: str, body: dict[str, object], problem: str
) -> None:
    answer = httpx.post(f"{conductor}{path}", json={"filters": {"product": "B"}, **body})
    assert answer.status_code == 422
    assert problem in answer.json()["detail"]
    assert get(conductor, "/orders")["items"] == []


def test_an_order_that_changes_nothing_is_refused_but_what_it_selects_is_shown(
    conductor: str,
) -> None:
    body = {"command": "reprioritize", "filters": {"product": "B"}}
    answer = httpx.post(f"{conductor}/orders", json=body)
    assert answer.status_code == 422
    assert "nothing to change given (accepted: class, priority)" in answer.json()["detail"]
    assert httpx.post(f"{conductor}/orders/preview", json=body).json()["total"] == 0
    assert get(conductor, "/orders")["items"] == []


@pytest.mark.usefixtures("wide_terminal")
def test_what_waits_is_given_another_class_and_priority(
    stage: Stage, conductor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["hold", "--all"]) == 0
    stage.archive("A", "o1")
    stage.archive("A", "o2")
    eventually_in(conductor, {"B/o1": "held", "B/o2": "held"})
    capsys.readouterr()
    alert = ["reprioritize", "B", "o1", "--to-class=alert"]
    assert run([*alert, "--to-priority=-3", "--operator=ana", "--reason=flare"]) == 0
    assert capsys.readouterr().out == "B of o1: class alert, priority -3\n"
    assert run([*alert, "--dry-run"]) == 2
    capsys.readouterr()
    of_o2 = ["reprioritize", "--obs-id=o2", "--class=live", "--to-class=backfill"]
    assert run([*of_o2, "--dry-run"]) == 0
    assert "1 processing selected" in capsys.readouterr().out
    assert run([*of_o2, "--yes"]) == 0
    assert capsys.readouterr().out == "reprioritize: 1 processing changed, of 1 selected\n"
    assert run(["events", "--orders"]) == 0
    assert "to class alert, priority -3" in " ".join(capsys.readouterr().out.split())
    assert run(["why", "B", "o1"]) == 0
    told = "operator ana (claimed): given class alert and priority -3: flare"
    assert told in capsys.readouterr().out
    assert run(["release", "--all"]) == 0
    eventually_in(conductor, {f"{p}/{o}": "succeeded" for p in "BC" for o in ("o1", "o2")})
    listed = {
        f"{each['product']}/{each['obs_id']}": (each["class"], each["priority"])
        for each in get(conductor, "/processings")["items"]
    }
    # What follows inherits the class.
    assert listed == {
        "B/o1": ("alert", -3),
        "C/o1": ("alert", 0),
        "B/o2": ("backfill", 0),
        "C/o2": ("backfill", 0),
    }
    assert run(alert) == 1
    assert "is succeeded (only what is to be requested can be" in capsys.readouterr().err


def test_what_is_cancelled_or_failed_is_retried_by_filters(
    stage: Stage, conductor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.pipeline.outcomes["B"].append("running")
    stage.archive("A", "o1")
    eventually_in(conductor, {"B/o1": "running"})
    assert run(["cancel", "--provider=mak*"]) == 0
    assert capsys.readouterr().out == "cancel: 1 processing changed, of 1 selected\n"
    assert run(["retry", "--obs-id=o?"]) == 0
    eventually_in(conductor, dict.fromkeys(("B/o1", "C/o1"), "succeeded"))


def test_what_is_withdrawn_is_no_longer_available(stage: Stage, conductor: str) -> None:
    stage.archive("A", "o1")
    eventually_in(conductor, dict.fromkeys(("B/o1", "C/o1"), "succeeded"))
    stage.archive("A", "o1")
    eventually_sync(lambda: versions(conductor, "o1")["A"] == 2)
    assert run(["rm", "A", "o1", "--version", "2", "--yes", "--reason", "bad data"]) == 0
    eventually_sync(lambda: versions(conductor, "o1")["A"] == 1)
    assert run(["rm", "C", "o1", "--version", "1", "--yes"]) == 0
    eventually_in(conductor, {"B/o1": "succeeded", "C/o1": "failed"})
    products = get(conductor, "/observations/o1")["products"]
    assert [each["product"] for each in products if each["state"] == "available"] == ["A", "B"]
    # Nothing is made again by itself.
    assert get(conductor, "/reconciliation")["items"] == []


def test_what_is_retried_while_an_import_is_waited_for_is_told_with_its_cause(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    retrying = {
        "id": "1",
        "product": "B",
        "state": "retrying",
        "attempt": 1,
        "max_attempts": 3,
        "error": "no calibration",
        "progress": {"done": 0, "total": 0},
    }
    made = {**retrying, "state": "succeeded", "attempt": 2, "error": None}
    answers = iter(
        [
            {"heard": True, "done": False, "open": [retrying], "made": [], "failed": []},
            {"heard": True, "done": False, "open": [retrying], "made": [], "failed": []},
            {"heard": True, "done": True, "open": [], "made": [made], "failed": []},
        ]
    )
    monkeypatch.setattr(ConductorClient, "following", lambda *_: next(answers))
    monkeypatch.setattr("batuta.cli.requests.waiting.POLL_INTERVAL_S", 0.0)
    follow("http://127.0.0.1:1", "A", "o1", 1, 10.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "B: retrying, attempt 1 of 3 failed: no calibration"
    assert lines[1] == "B: succeeded"
    assert lines[2].startswith("1 product made in ")
