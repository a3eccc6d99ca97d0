"""The log of a processing is read through the conductor, wherever its pipeline keeps it."""

import httpx
import pytest

from batuta.cli.app import run
from batuta.conductor.routes import log_routes
from batuta.conductor.service import open_conductor
from tests.conductor.graphs import graph_of
from tests.conductor.stage import Stage, get, one_processing
from tests.support.services import serving
from tests.support.waiting import eventually_sync

GRAPH = graph_of(["A", "X"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["A", "X"]}})


def test_a_log_is_printed_from_its_pipeline_or_why_there_is_none(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.pipeline.outcomes["B"].append("running")
    with serving(open_conductor, stage.settings(GRAPH)) as url:
        monkeypatch.setenv("BATUTA_CONDUCTOR_URL", url)

        def log(*arguments: str) -> tuple[int, str]:
            code = run(["log", *arguments])
            shown = capsys.readouterr()
            return code, shown.out + shown.err

        stage.announce("A", "o1")
        number = eventually_sync(one_processing(url))["id"]
        eventually_sync(stage.asked_for)
        assert log("B", "o1") == (
            1,
            f"batuta: conductor: maker: keeps no logs ({_at(stage, number)})\n",
        )
        text = "".join(f"line {line} é\n" for line in range(5))
        stage.pipeline.logs[number] = text.encode() + b"\x1b[31m"
        assert log("B", "o1") == (0, f"{text}\\x1b[31m")
        assert log(number, "--tail=2") == (0, "line 4 é\n\\x1b[31m")
        stage.pipeline.end(number, "succeeded")
        assert log("B", "o1", "--follow") == (0, f"{text}\\x1b[31m")
        code, shown = log("B", "o1", "--attempt=1")
        assert (code, shown) == (
            1,
            "batuta: conductor: maker: keeps one log of all attempts (ask without --attempt)\n",
        )
        assert log("B", "o1", "--attempt=1", "-f")[0] == 2
        assert "not found" in log("nowhere")[1]
        assert "no processing" in log("C", "o1")[1]

        # More than one answer may hold is cut off, and said so.
        monkeypatch.setattr(log_routes, "MAX_LOG_BYTES", 8)
        assert httpx.get(f"{url}/processings/{number}/log").text == (
            "line 0 \n[log cut off after 8 bytes]\n".replace(
                " \n", " \N{REPLACEMENT CHARACTER}\n", 1
            )
        )
        assert run(["hold", "maker"]) == 0
        assert capsys.readouterr().out == "held now: maker\n"
        stage.announce("A", "o2")
        eventually_sync(lambda: get(url, "/processings?obs_id=o2")["items"])
        code, shown = log("B", "o2")
        assert (code, shown) == (
            1,
            "batuta: conductor: B of o2: no log: it is held, and was not requested from maker\n",
        )
        assert run(["release", "maker"]) == 0
        assert capsys.readouterr().out == "held now: none\n"
        for wrong, code in ((["hold"], 2), (["hold", "maker", "--all"], 2), (["hold", "m"], 1)):
            assert run(wrong) == code
            assert "(accepted: PROVIDER, --product, --obs-id, --class, --campaign, or --all)" in (
                shown := capsys.readouterr().err
            ) or ("provider 'm': not in the graph (known: maker)" in shown)


def test_a_pipeline_that_cannot_be_reached_is_named(stage: Stage) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}})
    nowhere = {"maker": "http://127.0.0.1:1/pipeline"}
    with serving(open_conductor, stage.settings(graph, provider_urls=nowhere)) as url:
        stage.announce("A", "o1")
        number = eventually_sync(one_processing(url))["id"]
        eventually_sync(lambda: get(url, f"/processings/{number}")["requested"])
        answer = httpx.get(f"{url}/processings/{number}/log")
        assert answer.status_code == 502
        assert "maker at http://127.0.0.1:1" in answer.json()["detail"]


def test_the_tiles_of_a_processing_are_told_as_its_pipeline_tells_them(stage: Stage) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"]}})
    stage.pipeline.outcomes["B"].append("running")
    with serving(open_conductor, stage.settings(graph)) as url:
        stage.announce("A", "o1")
        number = eventually_sync(one_processing(url))["id"]
        eventually_sync(stage.asked_for)
        path = f"{url}/processings/{number}/tiles"
        answer = httpx.get(path)
        assert answer.status_code == 404
        assert answer.json()["detail"].startswith("maker: keeps no tiles (http://")
        stage.pipeline.tiles[number] = {"seq": 7, "full": True}
        answer = httpx.get(path, params={"since": 5})
        assert answer.json() == {"seq": 7, "full": True, "since": 5}
        assert answer.headers["Content-Type"] == "application/json"
        assert httpx.get(path).json()["since"] is None
        assert httpx.get(path, params={"since": -1}).status_code == 422
        assert httpx.get(f"{url}/processings/nothing/tiles").status_code == 404


def _at(stage: Stage, number: str) -> str:
    return f"{stage.pipeline_url}/pipeline/processing/{number}/log"
