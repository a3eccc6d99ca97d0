"""Why a product is not there: recursively to the causes, and what would end each."""

from itertools import pairwise

import pytest

from batuta.cli.app import run
from batuta.conductor.decisions.causes import (
    MAX_DEPTH,
    Facts,
    KnownProcessing,
    Situation,
    cause_of,
    consequences,
    in_words,
    remedies,
)
from batuta.conductor.service import open_conductor
from batuta.messaging import ProcessingState as State
from batuta.service.operators import default_operator
from tests.conductor.graphs import graph_of
from tests.conductor.stage import Stage, eventually_in, get
from tests.support.services import serving
from tests.support.waiting import eventually_sync

GRAPH = graph_of(
    ["A", "X"],
    {
        "B": {"m_input": ["A"]},
        "C": {"m_input": ["B", "X"]},
        "D": {"m_input": ["C", "B"]},
        "E": {"m_input": ["D", "C"]},
    },
)


RUNNING = "being made: running, attempt 1 of 2: no"


def facts(available: str = "", **states: State) -> Facts:
    return Facts(
        obs_id="o1",
        versions=dict.fromkeys(available, 1),
        processings={
            name: KnownProcessing(
                id=f"id-{name}", state=state, attempt=1, max_attempts=2, error="no", since=5.0
            )
            for name, state in states.items()
        },
        since=1.0,
        now=10.0,
    )


@pytest.mark.parametrize(
    ("known", "situation", "remedy"),
    [
        (facts("AB", B=State.SUCCEEDED), Situation.AVAILABLE, None),
        (facts("A", B=State.RUNNING), Situation.BEING_MADE, "the end of B at maker"),
        (facts("A", B=State.RETRYING), Situation.RETRYING, "the next attempt at B"),
        (facts("A", B=State.HELD), Situation.HELD, "the release of what holds it: batuta holds"),
        (facts("A", B=State.FAILED), Situation.FAILED, "batuta retry id-B"),
        (facts("A", B=State.CANCELLED), Situation.CANCELLED, "batuta retry id-B"),
        (facts(), Situation.LACKS_INPUTS, "the arrival of A: batuta import --product A"),
        (facts("A"), Situation.NOT_REQUESTED, "batuta make B o1"),
    ],
)
def test_each_situation_says_what_would_end_it(
    known: Facts, situation: Situation, remedy: str | None
) -> None:
    cause = cause_of(GRAPH, "B", known)
    assert cause.situation is situation
    assert [each.startswith(remedy or "") for each in remedies(cause, "o1")] == (
        [True] if remedy else []
    )


def _waiting_for_optional(now: float) -> Facts:
    claimed = KnownProcessing(
        id="id-R",
        state=State.WAITING,
        attempt=0,
        max_attempts=2,
        error=None,
        since=5.0,
        not_before=60.0,
    )
    return Facts(obs_id="o1", versions={"A": 1}, processings={"R": claimed}, since=1.0, now=now)


def test_a_claim_that_waits_for_optional_inputs_names_them_and_the_end_of_its_wait() -> None:
    products: dict[str, dict[str, object]] = {
        "B": {"m_input": ["A"]},
        "R": {"m_input": ["A"], "o_input": ["B"], "o_wait": 60},
    }
    graph = graph_of(["A"], products)
    cause = cause_of(graph, "R", _waiting_for_optional(now=10.0))
    assert cause.situation is Situation.WAITS_FOR_OPTIONAL
    assert list(in_words(cause)) == [
        (0, "R (made by maker): waits for optional inputs: B, until 1970-01-01 00:01:00"),
        (1, "B (made by maker): not requested"),
    ]
    assert remedies(cause, "o1") == (
        "the end of its wait, by itself: for B, until 1970-01-01 00:01:00",
        "batuta make B o1",
    )
    late = cause_of(graph, "R", _waiting_for_optional(now=61.0))
    assert late.situation is Situation.BEING_MADE


def test_a_graph_of_any_depth_is_explained() -> None:
    names = ["A", *(f"P{number}" for number in range(3000))]
    products: dict[str, dict[str, object]] = {
        name: {"m_input": [source]} for source, name in pairwise(names)
    }
    cause = cause_of(graph_of(["A"], products), names[-1], facts())
    assert len(list(in_words(cause))) == MAX_DEPTH + 1


def test_what_lacks_is_followed_to_its_causes_each_once() -> None:
    cause = cause_of(GRAPH, "E", facts("A", B=State.FAILED))
    assert list(in_words(cause)) == [
        (0, "E (made by maker): lacks inputs"),
        (1, "D (made by maker): lacks inputs"),
        (2, "C (made by maker): lacks inputs"),
        (3, "B (made by maker): failed: attempt 1 of 2: no"),
        (3, "X (arrives from outside): not arrived"),
        (2, "B (made by maker): failed: attempt 1 of 2: no"),
        (1, "C (made by maker): lacks inputs"),
    ]
    assert [each.split()[:3] for each in remedies(cause, "o1")] == [
        ["batuta", "retry", "id-B,"],
        ["the", "arrival", "of"],
    ]


@pytest.mark.parametrize(
    ("approval", "states", "words", "remedy"),
    [
        (
            "after",
            {"B": State.RUNNING},
            f"B (made by maker): {RUNNING}; will wait for approval once it is made",
            ["the end of B at maker", "then the approval of B, once it is made: batuta approve"],
        ),
        (
            "before",
            {},
            "B (made by maker): not requested; will wait for approval before it is made",
            ["batuta make B o1", "then the approval of B, before it is made: batuta approve B o1"],
        ),
    ],
)
def test_an_input_that_will_wait_for_approval_says_so_before_it_does(
    approval: str, states: dict[str, State], words: str, remedy: list[str]
) -> None:
    products: dict[str, dict[str, object]] = {
        "B": {"m_input": ["A"], "approval": approval},
        "C": {"m_input": ["B"]},
    }
    graph = graph_of(["A"], products)
    cause = cause_of(graph, "C", facts("A", **states))
    assert list(in_words(cause)) == [(0, "C (made by maker): lacks inputs"), (1, words)]
    found = remedies(cause, "o1")
    assert [each.startswith(start) for each, start in zip(found, remedy, strict=True)] == [
        True,
        True,
    ]
    (of_b,) = consequences(graph, "A", facts())
    assert of_b.approval == approval
    made = cause_of(graph, "B", facts("AB", B=State.SUCCEEDED))
    assert made.approval is None


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_what_lost_its_input_needs_that_and_not_another_attempt(state: State) -> None:
    cause = cause_of(GRAPH, "C", facts("X", C=state))
    assert next(line for _, line in in_words(cause)).startswith(f"C (made by maker): {state}")
    assert [each.product for each in cause.lacks] == ["B"]
    assert remedies(cause, "o1") == (
        (
            "the arrival of A: batuta import --product A --obs-id o1 FILE, or its announcement on "
            "data.*"
        ),
    )


def test_what_follows_says_what_it_lacks_besides() -> None:
    found = {each.product: each.lacks for each in consequences(GRAPH, "B", facts("A"))}
    assert found == {"C": ("X",), "D": ("C",)}


def test_why_tells_what_happened_what_is_waited_for_and_what_follows(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = graph_of(
        ["A", "X"],
        {
            "B": {"m_input": ["A"]},
            "C": {"m_input": ["B", "X"], "max_attempts": 1},
            "D": {"m_input": ["C"]},
        },
    )
    stage.pipeline.outcomes["C"].append("failed")
    with serving(open_conductor, stage.settings(graph)) as url:
        monkeypatch.setenv("BATUTA_CONDUCTOR_URL", url)

        def why(product: str, obs_id: str = "o1") -> str:
            assert run(["why", product, obs_id]) == 0
            return capsys.readouterr().out

        assert "A (arrives from outside): not arrived" in why("D")
        stage.announce("A", "o1")
        eventually_in(url, {"B/o1": "succeeded"})
        eventually_sync(lambda: get(url, "/events?product=B")["items"])
        produced = why("B")
        assert "A was announced: it triggered B" in produced
        assert "maker: succeeded" in produced
        assert "C, lacks besides X" in produced
        assert "data.vhf" in produced

        waiting = get(url, "/why/D/o1")
        assert waiting["cause"]["situation"] == "lacks inputs"
        (of_c,) = waiting["cause"]["lacks"]
        assert [each["product"] for each in of_c["lacks"]] == ["X"]
        assert waiting["needs"][0].startswith("the arrival of X")

        stage.announce("X", "o1")
        eventually_in(url, {"B/o1": "succeeded", "C/o1": "failed"})
        failed = why("D")
        assert "C (made by maker): failed: attempt 1 of 1: scripted" in failed
        assert "batuta retry" in failed
        number = get(url, "/why/C/o1")["processings"][-1]["id"]
        assert run(["retry", number, "--reason=darks mended"]) == 0
        eventually_in(url, {"B/o1": "succeeded", "C/o1": "succeeded", "D/o1": "succeeded"})
        assert "to be made" not in why("D")
        history = [(each["by"], each["what"]) for each in get(url, "/why/C/o1")["history"]]
        assert ("conductor", "attempt 1 failed: failed: scripted") in history
        by = f"operator {default_operator()} (claimed)"
        assert (by, "retried, with all attempts again: darks mended") in history
        assert run(["retry", number, "--reason", "a\nb"]) == 1
        assert "reason" in capsys.readouterr().err
