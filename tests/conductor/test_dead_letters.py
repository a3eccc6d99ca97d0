"""Dead letters: listed, shown, and sent again to where they came from, once."""

import asyncio
import io
import json
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from batuta.cli.app import run
from batuta.conductor.service import open_conductor
from batuta.messaging import NatsConfig, connect, subjects
from batuta.messaging.dead_letters import DeadLetters
from batuta.service.operators import default_operator
from tests.conductor.graphs import graph_of
from tests.conductor.stage import Stage, get
from tests.support.servers import NatsServer
from tests.support.services import serving
from tests.support.waiting import eventually_sync

GRAPH = graph_of(["A"], {"B": {"m_input": ["A"]}})


async def put_aside(nats: NatsServer, stream: str, payload: bytes, origin: str) -> None:
    async with connect(NatsConfig(url=nats.url), "test") as bus:
        await bus.publish_dead_letter(stream, payload, "why", origin)


def data_messages(nats: NatsServer) -> int:
    async def count() -> int:
        async with connect(NatsConfig(url=nats.url), "test") as bus:
            return int((await bus.jetstream.stream_info("DATA")).state.messages)

    return asyncio.run(count())


@pytest.mark.usefixtures("wide_terminal")
def test_dead_letters_are_listed_shown_and_sent_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def command(*arguments: str) -> tuple[int, str]:
        code = run(["dead", *arguments])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    with serving(open_conductor, stage.settings(graph_of(["X"], {"B": {"m_input": ["X"]}}))) as url:
        # Its graph does not know A yet.
        stage.announce("A", "o1", "o2", "o3")
        stage.publish("data.vhf", b"\xff")
        asyncio.run(put_aside(stage.nats, "ACTIVITY", b"no activity", "activity.maker#1"))
        eventually_sync(lambda: get(url, "/dead")["total"] == 5)
    stage.pipeline.outcomes["B"].append("running")
    with serving(open_conductor, stage.settings(GRAPH)) as url:
        monkeypatch.setenv("BATUTA_CONDUCTOR_URL", url)
        found = get(url, "/dead?limit=1000")["items"]
        assert {each["subject"] for each in found} == {"data.vhf", "activity.maker"}
        number = {each["excerpt"]: each["sequence"] for each in found}
        of_o1 = number['{"product": "A", "obs_id": "o1"}']

        # In pages, by what they are put aside for and when.
        page = get(url, "/dead?limit=2")
        rest = get(url, f"/dead?limit=1000&cursor={page['next']}")
        assert (len(page["items"]), len(rest["items"])) == (2, 3)
        assert len(get(url, "/dead?reason=not+in+the+GRAPH")["items"]) == 3
        assert get(url, "/dead?until=2020-01-01T00:00Z")["items"] == []

        assert command()[1].count("not in the graph") == 3
        assert run(["status"]) == 0
        assert "5 dead letters: see batuta dead" in capsys.readouterr().out
        assert '{"product": "A", "obs_id": "o1"}' in command("show", str(of_o1))[1]
        assert "base64: /w==" in command("show", str(number["\N{REPLACEMENT CHARACTER}"]))[1]

        # One by its number: it is understood now, and is no dead letter any more.
        code, shown = command("resend", str(of_o1))
        assert code == 0
        assert "triggered: B" in shown
        code, shown = command("resend", str(of_o1))
        assert code == 1
        assert f"batuta: dead letter {of_o1}: not found (never there, sent again" in shown

        # All that are selected need a yes.
        code, shown = command("resend", "--all", "--reason", "not in the graph")
        assert code == 2
        assert "2 dead letters selected: give --yes to send them all again" in shown
        selected = ["--all", "--reason", "not in the graph", "--yes", "--json"]
        code, shown = command("resend", *selected, "--operator=ana")
        assert code == 0
        assert [each["event"]["outcome"] for each in json.loads(shown)] == ["triggered"] * 2
        eventually_sync(lambda: [each[1] for each in stage.asked_for()] == ["o1", "o2", "o3"])

        # What is still not understood is put aside again, under a new number.
        code, shown = command("resend", "--all", "--subject=data.vhf", "--yes")
        assert code == 0
        assert "ignored: Invalid JSON" in shown
        eventually_sync(lambda: get(url, "/dead")["total"] == 2)
        orders = [(each["operator"], each["changed"]) for each in get(url, "/orders")["items"]]
        me = default_operator()
        # The third one is of what is no dead letter any more.
        assert orders == [(me, 1), ("ana", 2), (me, 0), (me, 1)]
        assert get(url, "/orders/1")["about"] == {"letters": str(of_o1)}
        _check_refusals(url, command)


def _check_refusals(url: str, command: Callable[..., tuple[int, str]]) -> None:
    for wrong in ([], ["1", "--all"], ["1", "--reason=x"]):
        code, shown = command("resend", *wrong)
        assert code == 2
        assert "accepted: numbers, or --all" in shown
    assert httpx.post(f"{url}/dead/resend", json={"sequences": [0]}).status_code == 422
    assert httpx.post(f"{url}/dead/resend", json={"numbers": [1]}).status_code == 422


def test_one_confirmation_sends_a_letter_once_whatever_is_killed(own_nats: NatsServer) -> None:
    async def resend_twice() -> Any:
        async with connect(NatsConfig(url=own_nats.url), "test") as bus:
            letters = DeadLetters(bus)
            await bus.publish_dead_letter("DATA", b"1", "why", "data.vhf#7")
            (letter,) = await letters.after(0, 10)
            confirmation = str(uuid.uuid4())
            # Killed between the two steps of a resend, the letter is still there.
            first = await bus.publish_payload(
                letter.subject, letter.payload, f"resend-{letter.sequence}-{confirmation}"
            )
            again = await letters.resend(letter, confirmation)
            return letter, first, again, await letters.count()

    letter, first, again, left = asyncio.run(resend_twice())
    assert (letter.subject, letter.origin, letter.reason) == ("data.vhf", 7, "why")
    assert first == again
    assert left == 0
    assert data_messages(own_nats) == 1


@pytest.mark.parametrize(
    ("origin", "size", "problem"),
    [
        ("batuta.deliver.x#1", None, "came from 'batuta.deliver.x'"),
        ("data.a.b#1", None, "came from 'data.a.b'"),
        ("", None, "came from ''"),
        ("data.vhf#1", "5000000", "only 1 of its 5000000 bytes were stored"),
    ],
)
async def test_what_came_from_elsewhere_or_is_not_whole_is_not_sent(
    own_nats: NatsServer, origin: str, size: str | None, problem: str
) -> None:
    async with connect(NatsConfig(url=own_nats.url), "test") as bus:
        headers = {subjects.ORIGIN_HEADER: origin, subjects.REASON_HEADER: "forged"}
        headers |= {} if size is None else {subjects.SIZE_HEADER: size}
        await bus.jetstream.publish("dead.data", b"1", headers=headers)
        letters = DeadLetters(bus)
        (letter,) = await letters.after(0, 10)
        with pytest.raises(Exception, match=problem):
            await letters.resend(letter, "c")
        assert await letters.count() == 1
