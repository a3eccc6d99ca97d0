"""Holds: what they keep back, who released them, and how fast it is let go."""

from dataclasses import replace
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from batuta.cli.app import run
from batuta.conductor.database.holds.hold_store import HoldStore, Wanted
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.schema import MIGRATIONS, processings
from batuta.conductor.database.views.hold_views import HoldViews
from batuta.conductor.decisions.events import Busy
from batuta.conductor.decisions.holds import (
    Scope,
)
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.service import open_conductor
from batuta.messaging import ProcessingState as State
from batuta.service.database import open_database, reading
from batuta.work_classes import WorkClass
from tests.conductor.graphs import TWO_PROVIDERS
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger, migrate_to
from tests.conductor.stage import Stage, eventually_in, get
from tests.support.services import serving

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
    harness = open_ledger(TWO_PROVIDERS)
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
    harness = open_ledger(TWO_PROVIDERS)
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
    harness = open_ledger(TWO_PROVIDERS)
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
    harness = open_ledger(TWO_PROVIDERS)
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
    harness = open_ledger(TWO_PROVIDERS)
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
    harness = open_ledger(TWO_PROVIDERS)
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
    harness = open_ledger(TWO_PROVIDERS)
    harness.take([Arrival("A", "o1", 1)], replace(UNLIMITED, of_provider=lambda _: 0))
    hold = harness.ledger.holds.place(Wanted(scope=Scope(provider="maker")))
    assert states(harness) == {"B/o1": "waiting", "C/o1": "waiting"}
    # Nothing of it is requested, and what is not held is not behind it.
    assert harness.due() == ["C"]
    assert states(harness)["B/o1"] == "held"
    harness.carry_out_holds()
    (found,) = harness.ledger.holds.open_holds()
    assert found == replace(hold, applied=True)


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
    with serving(open_conductor, stage.settings(TWO_PROVIDERS, provider_urls=both)) as url:
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
