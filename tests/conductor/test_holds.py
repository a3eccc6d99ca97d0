"""Holds: what they keep back, who released them, and how fast it is let go."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from batuta.cli.app import run
from batuta.conductor.database.holds.hold_store import HoldStore, PauseError, Wanted
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.schema import MIGRATIONS, processings
from batuta.conductor.database.views.hold_views import HoldViews
from batuta.conductor.decisions.campaigns import CampaignOrder, CampaignState
from batuta.conductor.decisions.events import Busy
from batuta.conductor.decisions.holds import (
    Hold,
    HoldState,
    Scope,
    let_go,
    pause_of,
    rate_per_s,
    release,
    standing,
)
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.service import open_conductor
from batuta.messaging import ProcessingState as State
from batuta.service.database import open_database, reading
from batuta.service.operators import Operator
from batuta.work_classes import WorkClass
from tests.conductor.campaign_player import CampaignPlayer, target_of
from tests.conductor.graphs import graph_of
from tests.conductor.harness import NOTHING, UNLIMITED, Harness, OpenLedger, migrate_to
from tests.conductor.processing_records import RUNNING
from tests.conductor.stage import Stage, eventually_in, get
from tests.support.services import serving

GRAPH = graph_of(
    ["A"],
    {
        "B": {"m_input": ["A"]},
        "C": {"m_input": ["A"], "provider": "other", "max_attempts": 3},
    },
)
IN_FORCE = Hold(number=3, scope=Scope(product="B"), begins=100.0, placed=90.0, by="operator ana")
WAITING = replace(RUNNING, state=State.HELD, attempt=0, held_by=3)

# ------------------------------------------------------------------ decisions


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        ({}, True),
        ({"provider": "maker"}, True),
        ({"product": "B"}, True),
        ({"obs_id": "o1"}, True),
        ({"work_class": WorkClass.LIVE}, True),
        ({"campaign": 7}, True),
        ({"provider": "maker", "product": "B", "work_class": WorkClass.LIVE}, True),
        ({"campaign": 8}, False),
        ({"provider": "maker", "campaign": 8}, False),
        ({"provider": "other"}, False),
        ({"product": "C"}, False),
        ({"obs_id": "o2"}, False),
        ({"work_class": WorkClass.BACKFILL}, False),
        ({"provider": "maker", "work_class": WorkClass.BACKFILL}, False),
    ],
)
def test_a_hold_covers_what_has_all_that_it_names(scope: dict[str, Any], covered: bool) -> None:
    work = replace(RUNNING, provider="maker", product="B", obs_id="o1", campaign=7)
    assert Scope(**scope).covers(work) is covered


def test_a_hold_keeps_back_from_its_time_on_until_it_is_released() -> None:
    assert IN_FORCE.state(99.0) is HoldState.SCHEDULED
    assert not IN_FORCE.catches(99.0)
    assert IN_FORCE.state(100.0) is HoldState.IN_FORCE
    assert IN_FORCE.catches(100.0)
    released = release(replace(IN_FORCE, applied=True), 200.0, "operator bob", "10/min")
    assert released.state(200.0) is HoldState.RELEASING
    assert not released.catches(200.0)
    never = release(IN_FORCE, 99.0, "operator bob")
    assert never.state(300.0) is HoldState.RELEASED


def test_what_is_not_marked_yet_does_not_escape_a_rate() -> None:
    assert release(IN_FORCE, 200.0, "bob", "10/min").catches(200.0)
    assert not release(IN_FORCE, 200.0, "bob").catches(200.0)


def test_a_command_that_is_repeated_places_no_second_hold_but_another_person_does() -> None:
    again = replace(IN_FORCE, number=0, begins=120.0, placed=120.0)
    assert standing([IN_FORCE], again) is IN_FORCE
    others: tuple[dict[str, Any], ...] = (
        {"by": "operator bob"},
        {"reason": "moon"},
        {"scope": Scope()},
        {"begins": 500.0},
    )
    for other in others:
        assert standing([IN_FORCE], replace(again, **other)) is None
    assert standing([replace(IN_FORCE, released=110.0)], again) is None


def test_an_operators_hold_of_a_paused_campaign_is_another_one_than_its_pause() -> None:
    pause = pause_of(7, "operator ana", None, 100.0)
    wanted = replace(IN_FORCE, number=0, scope=Scope(campaign=7), reason=None)
    assert standing([replace(pause, number=3)], wanted) is None
    assert (pause.what, pause.remedy) == ("campaign 7 (paused)", "batuta campaign resume 7")
    named = replace(wanted, number=4)
    assert (named.what, named.remedy) == ("campaign 7", "batuta release --hold 4")


@pytest.mark.parametrize(
    ("rate", "per_s"), [("10/min", 1 / 6), ("2/s", 2.0), ("36/h", 0.01), ("864/d", 0.01)]
)
def test_rates_are_a_number_and_a_unit(rate: str, per_s: float) -> None:
    assert rate_per_s(rate) == pytest.approx(per_s)


@pytest.mark.parametrize(
    "rate", ["", "10", "0/min", "-1/s", "1.5/min", "10/week", "10 / min", "٣/s"]
)
def test_other_rates_are_refused_with_what_is_accepted(rate: str) -> None:
    with pytest.raises(ValueError, match="as 10/min"):
        rate_per_s(rate)


@pytest.mark.parametrize(
    ("waited_s", "gone"),
    [(0.0, 1), (0.9, 1), (6.0, 1), (3600.0, 1), (-3600.0, 0)],
    ids=["at once", "a little late", "missed one", "down for an hour", "clock set back"],
)
def test_a_rate_holds_whatever_the_conductor_and_its_clock_did(waited_s: float, gone: int) -> None:
    released = replace(release(IN_FORCE, 200.0, "bob", "10/min"), applied=True)
    step = let_go(released, [WAITING] * 10, [], 200.0 + waited_s)
    assert [after.state for _, after in step.changes] == [State.WAITING] * gone
    # Another look at the same time lets nothing more go.
    later = replace(released, next_at=step.next_at)
    assert let_go(later, [WAITING] * 10, [], 200.0 + waited_s).changes == []
    assert step.next_at <= 200.0 + waited_s + 6.0


@pytest.mark.parametrize(("waited_s", "gone"), [(0.0, 1), (0.5, 51), (1.0, 101), (60.0, 101)])
def test_at_a_high_rate_several_go_at_once_and_no_more_than_in_a_second(
    waited_s: float, gone: int
) -> None:
    released = replace(release(IN_FORCE, 200.0, "bob", "100/s"), applied=True)
    assert len(let_go(released, [WAITING] * 500, [], 200.0 + waited_s).changes) == gone


def test_without_a_rate_all_is_let_go() -> None:
    released = release(IN_FORCE, 200.0, "bob")
    assert len(let_go(released, [WAITING] * 10, [], 200.0).changes) == 10


def test_what_another_hold_covers_goes_over_to_it_at_no_cost_to_the_rate() -> None:
    released = replace(release(IN_FORCE, 200.0, "bob", "10/min"), applied=True)
    other = replace(IN_FORCE, number=7, scope=Scope(obs_id="kept"))
    first = [replace(WAITING, obs_id="kept")] * 3 + [WAITING] * 2
    step = let_go(released, first, [released, other], 200.0)
    assert [(after.state, after.held_by) for _, after in step.changes] == [
        (State.HELD, 7),
        (State.HELD, 7),
        (State.HELD, 7),
        (State.WAITING, 3),
    ]


# ------------------------------------------------------------------ recorded


def arrive(harness: Harness, *observations: str, **told: Any) -> list[DueRequest]:
    return harness.take([Arrival("A", each, 1, **told) for each in observations], UNLIMITED)


def states(harness: Harness) -> dict[str, str]:
    return {
        f"{each.product}/{each.obs_id}": each.state.value
        for each in harness.views.processings({}, 1000, None).items
    }


@pytest.mark.parametrize(
    ("scope", "requested"),
    [
        ({}, ""),
        ({"provider": "maker"}, "C/o1 C/o2"),
        ({"product": "C"}, "B/o1 B/o2"),
        ({"obs_id": "o1"}, "B/o2 C/o2"),
        ({"work_class": WorkClass.LIVE}, ""),
        ({"work_class": WorkClass.ALERT}, "B/o1 B/o2 C/o1 C/o2"),
        ({"provider": "maker", "obs_id": "o1"}, "B/o2 C/o1 C/o2"),
    ],
)
def test_work_of_any_kind_is_held_whether_it_waits_or_arrives(
    open_ledger: OpenLedger, scope: dict[str, Any], requested: str
) -> None:
    harness = open_ledger(GRAPH)
    # Claimed, and without a slot, before the hold; and claimed after it.
    harness.take([Arrival("A", "o1", 1)], replace(UNLIMITED, of_provider=lambda _: 0))
    harness.hold(**scope)
    arrive(harness, "o2")
    harness.ledger.take_due(UNLIMITED)
    found = states(harness)
    assert sorted(each for each, state in found.items() if state == "requested") == (
        requested.split()
    )
    assert set(found.values()) <= {"requested", "held"}
    assert len(found) == 4
    harness.release(**scope)
    harness.ledger.take_due(UNLIMITED)
    assert set(states(harness).values()) == {"requested"}
    assert harness.ledger.holds.open_holds() == []


def test_what_several_holds_cover_starts_when_the_last_is_released(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    holds: tuple[dict[str, Any], ...] = ({}, {"product": "B"}, {"obs_id": "o1"})
    for each in holds:
        harness.hold(**each)
    arrive(harness, "o1")
    views = HoldViews(harness.engine, harness.ledger.holds)
    assert [(each.keeps, each.alone) for each in views.all()] == [(2, 0), (1, 0), (2, 0)]
    harness.release()
    assert harness.due() == []
    harness.release(product="B")
    assert harness.due() == []
    assert [(each.keeps, each.alone) for each in views.all()] == [(2, 2)]
    harness.release(obs_id="o1")
    assert sorted(harness.due()) == ["B", "C"]


def test_a_hold_from_a_time_on_begins_then(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    begins = harness.clock() + 100
    harness.hold("maker", begins=begins)
    assert [each.product for each in arrive(harness, "o1")] == ["B", "C"]
    assert harness.carry_out_holds() == begins
    harness.clock.advance(100)
    # In force though nobody has marked anything yet.
    assert [each.product for each in arrive(harness, "o2")] == ["C"]
    assert states(harness)["B/o2"] == "held"


@pytest.mark.parametrize("fails", ["failed", "busy"])
def test_what_runs_continues_and_its_next_attempt_is_held(
    open_ledger: OpenLedger, fails: str
) -> None:
    harness = open_ledger(GRAPH)
    request = next(each for each in arrive(harness, "o1") if each.product == "C")
    harness.hold("other")
    assert harness.state(request) is State.REQUESTED
    if fails == "busy":
        harness.apply(
            Busy(processing_id=request.processing_id, asked_attempt=1, error="full", wait_s=5)
        )
    else:
        harness.report(request, State.FAILED, error="no luck")
    assert harness.state(request) is State.HELD
    harness.clock.advance(1000)
    assert harness.due() == []
    harness.release("other")
    assert harness.due() == ["C"]


def test_a_preview_tells_what_would_start_and_a_rate_lets_it_go(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    held = harness.hold()
    harness.hold(obs_id="o3")
    arrive(harness, "o1", "o3")
    arrive(harness, "o2", told_class=WorkClass.ALERT)
    preview = HoldViews(harness.engine, harness.ledger.holds).preview(held.number)
    assert preview is not None
    assert (preview.starts, preview.remains) == (4, 2)
    assert preview.products == {"B": 2, "C": 2}
    assert preview.providers == {"maker": 2, "other": 2}
    assert preview.classes == {"alert": 2, "live": 2}

    harness.release(rate="10/min")
    gone = [harness.ledger.take_due(UNLIMITED)]
    for _ in range(3):
        harness.clock.advance(6)
        # As a conductor that was killed and started again does.
        harness.carry_out_holds()
        gone.append(harness.ledger.take_due(UNLIMITED))
    # The more urgent first; what is kept by another hold takes no turn.
    assert [[each.obs_id for each in some] for some in gone] == [["o2"], ["o2"], ["o1"], ["o1"]]
    harness.clock.advance(6)
    harness.carry_out_holds()
    assert [each.scope for each in harness.ledger.holds.open_holds()] == [Scope(obs_id="o3")]
    # What arrives after the release is not held by it.
    harness.release(obs_id="o3")
    assert sorted(harness.due()) == ["B", "C"]


def test_a_rate_may_be_changed_and_given_up(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    harness.hold("maker")
    arrive(harness, *(f"o{number}" for number in range(10)))
    harness.release("maker", rate="1/h")
    assert harness.due() == ["B"]
    harness.release("maker", rate="1/s")
    harness.clock.advance(1)
    harness.carry_out_holds()
    assert harness.due() == ["B", "B"]
    harness.release("maker")
    assert harness.due() == ["B"] * 7


def test_a_hold_that_a_kill_interrupted_is_in_force_and_carried_out_later(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    harness.take([Arrival("A", "o1", 1)], replace(UNLIMITED, of_provider=lambda _: 0))
    hold = harness.ledger.holds.place(Wanted(scope=Scope(provider="maker")))
    assert states(harness) == {"B/o1": "waiting", "C/o1": "waiting"}
    # Nothing of it is requested, and what is not held is not behind it.
    assert harness.due() == ["C"]
    assert states(harness)["B/o1"] == "held"
    harness.carry_out_holds()
    (found,) = harness.ledger.holds.open_holds()
    assert found == replace(hold, applied=True)


# ------------------------------------------------------------------ of campaigns


@pytest.fixture
def player(open_ledger: OpenLedger) -> CampaignPlayer:
    """A campaign that has two processings waiting, beside one that is not its own."""
    player = CampaignPlayer(open_ledger(GRAPH))
    player.make_all(player.arrive(("A", "o1"), ("A", "o2")))
    number = player.plan(target_of("C"))
    player.order(number, CampaignOrder.START)
    player.rest(number)
    player.harness.take([Arrival("A", "o3", 1)], NOTHING)
    return player


def held_by(player: CampaignPlayer) -> dict[str, int | None]:
    found = player.harness.views.processings({"state": "held"}, 100, None).items
    return {f"{each.product}/{each.obs_id}": each.held_by for each in found}


def test_a_campaign_is_held_and_released_and_nothing_else_is(player: CampaignPlayer) -> None:
    held = player.harness.hold(campaign=1)
    assert held_by(player) == {"C/o1": held.number, "C/o2": held.number}
    # What it begins after that is held too, and the rest goes on.
    assert sorted(player.harness.due()) == ["B", "C"]
    views = HoldViews(player.harness.engine, player.harness.ledger.holds)
    preview = views.preview(held.number)
    assert preview is not None
    assert (preview.starts, preview.products, preview.hold.what) == (2, {"C": 2}, "campaign 1")
    player.harness.release(campaign=1)
    assert player.harness.due() == ["C", "C"]


@pytest.mark.parametrize("first", ["pause", "hold"])
@pytest.mark.parametrize("ends_first", ["pause", "hold"])
@pytest.mark.parametrize("scope", [{"campaign": 1}, {"product": "C", "work_class": "reprocess"}])
def test_neither_the_end_of_a_pause_nor_of_a_hold_lets_go_what_the_other_keeps_back(
    player: CampaignPlayer, first: str, ends_first: str, scope: dict[str, Any]
) -> None:
    harness = player.harness
    views = HoldViews(harness.engine, harness.ledger.holds)
    begin: dict[str, Callable[[], object]] = {
        "pause": lambda: player.order(1, CampaignOrder.PAUSE),
        "hold": lambda: harness.hold(**scope),
    }
    end: dict[str, Callable[[], object]] = {
        "pause": lambda: player.order(1, CampaignOrder.RESUME),
        "hold": lambda: harness.release(**scope),
    }
    begin[first]()
    begin[{"pause": "hold", "hold": "pause"}[first]]()
    player.rest(1)
    assert [(each.keeps, each.alone) for each in views.all()] == [(2, 0), (2, 0)]
    end[ends_first]()
    player.rest(1)
    assert sorted(harness.due()) == ["B", "C"]  # of o3 alone
    (left,) = views.all()
    assert (left.keeps, left.alone, left.pause) == (2, 2, ends_first == "hold")
    assert set(held_by(player)) == {"C/o1", "C/o2"}
    end[{"pause": "hold", "hold": "pause"}[ends_first]]()
    player.rest(1)
    assert harness.due() == ["C", "C"]
    assert views.all() == []


def test_what_a_hold_had_kept_back_before_is_requested_once_its_campaign_is_resumed(
    player: CampaignPlayer,
) -> None:
    player.harness.hold("other")
    player.harness.release("other")
    player.order(1, CampaignOrder.PAUSE)
    player.rest(1)
    assert sorted(player.harness.due()) == ["B", "C"]
    player.order(1, CampaignOrder.RESUME)
    assert player.harness.due() == ["C", "C"]


def test_what_is_to_be_tried_again_of_a_paused_campaign_is_not(player: CampaignPlayer) -> None:
    requests = [each for each in player.harness.ledger.take_due(UNLIMITED) if each.obs_id != "o3"]
    player.order(1, CampaignOrder.PAUSE)
    player.harness.report(requests[0], State.FAILED, error="no luck")
    assert player.harness.state(requests[0]) is State.HELD
    player.harness.clock.advance(1000)
    assert player.harness.due() == []
    player.order(1, CampaignOrder.RESUME)
    assert player.harness.due() == ["C"]


def test_the_pause_of_a_campaign_ends_with_it_and_not_by_a_release(player: CampaignPlayer) -> None:
    player.order(1, CampaignOrder.PAUSE)
    (pause,) = player.harness.ledger.holds.open_holds()
    with pytest.raises(PauseError, match=r"campaign 1 \(paused\): batuta campaign resume 1"):
        player.harness.ledger.holds.release(pause.number, Operator("bob"))
    player.order(1, CampaignOrder.CANCEL)
    assert player.rest(1) is CampaignState.CANCELLED
    player.harness.carry_out_holds()
    assert player.harness.ledger.holds.open_holds() == []
    assert sorted(player.harness.due()) == ["B", "C"]


# ------------------------------------------------------------------ as operators see it

REFUSED = [
    (
        "hold",
        "nothing given (accepted: PROVIDER, --product, --obs-id, --class, --campaign, or --all)",
    ),
    ("hold maker --all", "provider maker and --all given"),
    (
        "hold makr",
        "provider 'makr': not in the graph (did you mean 'maker'?) (known: maker, other)",
    ),
    ("hold --product D", "product 'D': not in the graph (known: B, C)"),
    ("hold makr --product D", "(known: maker, other); product 'D': not in the graph"),
    ("hold --campaign 9", "campaign 9: not found"),
    ("hold --campaign none", "--campaign"),
    ("hold --class urgent", "'urgent' is not one of 'alert', 'live', 'reprocess',"),
    ("hold maker --from 2026-11-29T18:00", "no zone given (accepted: a time with its zone, as"),
    ("hold maker --from soon", "--from 'soon': no such time (accepted: a time with its zone, as"),
    ("release --hold 3 maker", "--hold and provider maker given (accepted: one of them)"),
    ("release --hold 99", "hold 99: not found"),
    ("release --product C", "product C: no hold of just that (held: hold 1 of class live)"),
    ("release --class live --rate 10", "a whole number and a unit, as 10/min"),
]
BODIES: list[tuple[str, dict[str, Any], str]] = [
    ("/holds", {"produkt": "B"}, "produkt: Extra inputs are not permitted"),
    ("/holds", {"from": "2026-11-29T18:00"}, "from: a time with its zone expected"),
    ("/holds", {"campaign": 0}, "campaign: Input should be greater than or equal to 1"),
    ("/holds", {"campaign": "last"}, "campaign: Input should be a valid integer"),
    ("/holds", {"class": "x"}, "class: Input should be 'alert', 'live', 'reprocess' or 'back"),
    ("/holds/1/release", {"rate": "fast"}, "rate: a whole number and a unit"),
    ("/holds/1/release", {"rates": "1/s"}, "rates: Extra inputs are not permitted"),
]


@pytest.mark.usefixtures("wide_terminal")
def test_an_operator_holds_lists_previews_and_releases(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATUTA_OPERATOR", "ana")
    both = dict.fromkeys(("maker", "other"), f"{stage.pipeline_url}/pipeline")
    with serving(open_conductor, stage.settings(GRAPH, provider_urls=both)) as url:
        monkeypatch.setenv("BATUTA_CONDUCTOR_URL", url)

        def command(*words: str) -> str:
            assert run(list(words)) == 0
            return " ".join(capsys.readouterr().out.split())

        assert command("holds") == "nothing is held"
        held = command("hold", "--class", "live", "--reason", "new darks")
        assert held == "held now: class live"
        # Repeated, because its answer was lost.
        assert command("hold", "--class", "live", "--reason", "new darks") == held
        for words, refusal in REFUSED:
            assert run(words.split()) in (1, 2), words
            shown = capsys.readouterr().err.replace("\n│", "").replace("│", "")
            assert refusal in " ".join(shown.split()), words
        for path, body, refusal in BODIES:
            answer = httpx.post(f"{url}{path}", json=body)
            assert (answer.status_code, refusal in answer.json()["detail"]) == (422, True), body
        assert [each["number"] for each in get(url, "/holds")["items"]] == [1]

        stage.announce("A", "o1", "o2")
        eventually_in(url, {f"{product}/{o}": "held" for product in "BC" for o in ("o1", "o2")})
        assert "hold 1 of class live, in force, since" in (status := command("status"))
        assert "(operator ana (claimed): new darks), keeps back 4: see batuta holds" in status
        why = command("why", "B", "o1")
        assert "B is held at maker, attempt 0" in why
        assert "kept back by hold 1 of class live since" in why
        assert "operator ana (claimed): held by hold 1 of class live: new darks" in why
        assert "the release of hold 1 of class live: batuta release --hold 1" in why
        metrics = httpx.get(f"{url}/metrics").text
        assert 'batuta_holds{state="in force"} 1.0' in metrics
        assert 'batuta_kept_back{hold="1"} 4.0' in metrics

        assert command("hold", "--obs-id", "o2") == "held now: class live; observation o2"
        listed = command("holds")
        assert "2 holds" in listed
        assert "4 2 ana (claimed) new darks" in listed
        preview = command("release", "--class", "live", "--dry-run")
        assert preview == (
            "hold 1 of class live: its release would start 2 processings other holds keep back 2 "
            "more that it covers: see batuta holds products: B 1, C 1 providers: maker 1, other 1 "
            "classes: live 2"
        )
        released = command("release", "--hold", "1", "--rate", "1/h", "--reason", "checked")
        assert released == (
            "held now: observation o2 being released at 1/h: class live, 1 still to be let go"
        )
        command("release", "--class", "live")
        eventually_in(
            url,
            {"B/o1": "succeeded", "C/o1": "succeeded", **dict.fromkeys(["B/o2", "C/o2"], "held")},
        )
        assert "hold 1 was released" in command("why", "B", "o1")
        again = httpx.post(f"{url}/holds/1/release", json={})
        assert again.status_code == 409
        assert "hold 1 of class live was released at 20" in again.json()["detail"]
        assert get(url, "/holds/1")["state"] == "released"
        assert command("release", "--hold", "2") == "held now: none"
        eventually_in(
            url, {f"{product}/{o}": "succeeded" for product in "BC" for o in ("o1", "o2")}
        )
        orders = [each["command"] for each in get(url, "/orders")["items"]]
        assert orders == ["release", "release", "release", "hold", "hold"]


def test_the_holds_of_an_earlier_version_stay_with_what_they_keep_back(
    empty_database_url: str,
) -> None:
    engine = sa.create_engine(empty_database_url.replace("postgresql:", "postgresql+psycopg:"))
    migrate_to("0015", engine)
    names = ("id", "product", "obs_id", "claim", "provider", "state")
    counted = ("priority", "attempt", "pipeline_attempt", "max_attempts", "done", "total")
    times = ("timeout_s", "not_before", "ask_at", "created")
    columns = ", ".join((*names, *counted, *times, "inputs"))
    with engine.begin() as connection:
        for name in ("*", "maker"):
            connection.execute(
                sa.text("INSERT INTO conductor_holds VALUES (:name, :since)"),
                {"name": name, "since": 100.0 if name == "maker" else 200.0},
            )
        for provider in ("maker", "other"):
            connection.execute(
                sa.text(
                    f"INSERT INTO conductor_processings ({columns}) VALUES "  # noqa: S608  constants
                    "(:provider, 'B', 'o1', :provider, :provider, 'held', "
                    "0, 0, 0, 1, 0, 0, 9.0, 0.0, 0.0, 50.0, '{}')"
                ),
                {"provider": provider},
            )
    engine.dispose()
    with open_database(empty_database_url, MIGRATIONS) as opened:
        store = HoldStore(opened, lambda: 300.0)
        found = [(each.number, each.scope.provider) for each in store.open_holds()]
        assert found == [(1, "maker"), (2, None)]
        kept = HoldViews(opened, store).all()
        assert [(each.keeps, each.alone) for each in kept] == [(1, 0), (2, 1)]
        with reading(opened) as connection:
            rows = connection.execute(sa.select(processings.c.id, processings.c.held_by))
            assert {row.id: row.held_by for row in rows} == {"maker": 1, "other": 2}
        # The next one has a number of its own.
        assert store.place(Wanted(scope=Scope(product="B"))).number == 3


def test_the_pauses_of_an_earlier_version_become_holds_that_end_as_campaigns_are_resumed(
    empty_database_url: str,
) -> None:
    engine = sa.create_engine(empty_database_url.replace("postgresql:", "postgresql+psycopg:"))
    migrate_to("0022", engine)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO conductor_holds (provider, begins, placed, by, applied, ended)"
                " VALUES ('other', 1.0, 1.0, 'operator', :applied, 2.0)"
            ),
            {"applied": True},
        )
        for number, state in ((1, "paused"), (2, "running")):
            connection.execute(
                sa.text(
                    "INSERT INTO conductor_campaigns (number, state, reason, selection, graph,"
                    " work_class, max_concurrent, total, created, touched, started, ran_s) VALUES"
                    " (:number, :state, 'full', '{}', 'x', 'reprocess', 9, 1, 1.0, 1.0, 5.0, 0.0)"
                ),
                {"number": number, "state": state},
            )
            for held_by in (None, 1):
                connection.execute(
                    sa.text(
                        "INSERT INTO conductor_processings (id, product, obs_id, claim, provider,"
                        " state, campaign, held_by, priority, attempt, pipeline_attempt,"
                        " max_attempts, done, total, timeout_s, not_before, ask_at, created,"
                        " inputs) VALUES"
                        " (:id, 'B', :id, 'once', 'maker', 'held', :campaign, :held_by,"
                        " 0, 0, 0, 1, 0, 0, 9.0, 0.0, 0.0, 50.0, '{}')"
                    ),
                    {"id": f"{state} {held_by}", "campaign": number, "held_by": held_by},
                )
    engine.dispose()
    with open_database(empty_database_url, MIGRATIONS) as opened:
        (pause,) = HoldStore(opened, lambda: 300.0).open_holds()
        assert (pause.number, pause.pause, pause.scope) == (2, True, Scope(campaign=1))
        assert (pause.reason, pause.begins) == ("full", 5.0)
        with reading(opened) as connection:
            columns = sa.select(processings.c.id, processings.c.state, processings.c.held_by)
            found = {row.id: (row.state, row.held_by) for row in connection.execute(columns)}
        assert {found["paused None"], found["paused 1"]} == {("held", 2)}
        # These had been forgotten as the campaign was resumed.
        assert {found["running None"][0], found["running 1"][0]} == {"waiting"}
