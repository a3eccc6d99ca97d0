"""What is finished and old is archived and dropped, and nothing of it is made again."""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from batuta.cli.app import run as run_command
from batuta.conductor.database.records import locked_rows, record_of
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.retention.dropped import DroppedObservation, read_dropped
from batuta.conductor.database.retention.dropping import RetentionStore, may_drop
from batuta.conductor.decisions.differences import Difference, DifferenceKind
from batuta.conductor.decisions.events import Archived, Refused
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.pruner import Pruner
from batuta.conductor.pruning_lock import LOCK_KEY
from batuta.conductor.service import open_conductor
from batuta.messaging import ProcessingState as State
from batuta.service.database import reading
from batuta.service.record_archive import ArchiveError, read_archive
from batuta.service.retention import DAY_S, PruneReport, RetentionRules
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger
from tests.conductor.stage import Stage, eventually_in, get, states
from tests.support.services import serving
from tests.support.waiting import eventually_sync

T = TypeVar("T")

RULES = RetentionRules(finished_days=30, failed_days=90)
CHAIN = graph_of(["A"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["B"]}})


async def _write(work: Callable[..., T], *args: Any) -> T:
    return work(*args)


def prune(harness: Harness, rules: RetentionRules = RULES) -> PruneReport:
    pruner = Pruner(harness.engine, harness.ledger.retention(rules), _write)
    return asyncio.run(pruner.apply())


def dropped(harness: Harness, obs_id: str) -> DroppedObservation | None:
    with reading(harness.engine) as connection:
        return read_dropped(connection, [obs_id]).get(obs_id)


def made_chain(harness: Harness, obs_id: str) -> None:
    """Play the chain to its end for an observation."""
    (request,) = harness.on_data(("A", obs_id, 1))
    for product in ("B", "C"):
        following = harness.make(request, product, 1)
        request = following[0] if following else request


@pytest.mark.parametrize(
    ("states", "days", "expected"),
    [
        ({State.SUCCEEDED}, 29, False),
        ({State.SUCCEEDED}, 31, True),
        (set(), 31, True),
        ({State.SUCCEEDED, State.FAILED}, 31, False),
        ({State.SUCCEEDED, State.FAILED}, 91, True),
        ({State.CANCELLED}, 91, True),
        *[({state}, 1e6, False) for state in State if not state.ended],
        *[({State.SUCCEEDED, state}, 1e6, False) for state in State if not state.ended],
    ],
)
def test_what_has_ended_and_is_old_may_be_dropped(
    states: set[State], days: float, expected: bool
) -> None:
    assert may_drop(states, 0.0, RULES, days * DAY_S) is expected


@given(
    st.sets(st.sampled_from(State)),
    st.floats(0, 1e9),
    st.floats(0, 1e9),
    st.one_of(st.just(math.inf), st.floats(0.001, 1e4)),
)
def test_what_may_be_dropped_may_be_dropped_later_too_unless_there_is_news(
    states: set[State], news: float, since: float, days: float
) -> None:
    rules = RetentionRules(finished_days=days, failed_days=days)
    now = news + since
    if may_drop(states, news, rules, now):
        assert may_drop(states, news, rules, now + 1)
        assert since > 0
    assert not may_drop(states | {State.WAITING}, news, rules, now)


def test_a_dropped_observation_is_made_neither_by_repeats_nor_by_a_replay(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(CHAIN)
    made_chain(harness, "o1")
    harness.clock.advance(31 * DAY_S)
    report = prune(harness)
    assert (report.observations, report.processings) == (1, 2)
    assert harness.views.processings({}, 100, None).items == []
    replay = [Arrival(name, "o1", 1, archived=name != "A") for name in ("A", "B", "C")]
    assert harness.take(replay, UNLIMITED) == []
    assert harness.views.processings({}, 100, None).items == []
    assert dropped(harness, "o1") is not None


def test_a_newer_version_of_a_dropped_observation_is_decided_as_if_it_had_stayed(
    open_ledger: OpenLedger,
) -> None:
    graph = graph_of(
        ["A", "X"], {"B": {"m_input": ["A"], "o_input": ["X"], "on_update": "reprocess"}}
    )
    harness = open_ledger(graph)
    (first,) = harness.on_data(("A", "o1", 3), ("X", "o1", 2))
    harness.make(first, "B", 1)
    harness.clock.advance(31 * DAY_S)
    prune(harness)
    assert harness.on_data(("A", "o1", 2)) == []
    (second,) = harness.on_data(("A", "o1", 4))
    found = harness.views.processing(second.processing_id)
    assert found is not None
    assert found.inputs == {"A": 4, "X": 2}
    assert dropped(harness, "o1") is None


def test_what_failed_and_was_dropped_is_retried_once_its_input_is_corrected(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}}))
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.FAILED, error="bad input")
    harness.clock.advance(91 * DAY_S)
    assert prune(harness).observations == 1
    assert harness.on_data(("A", "o1", 1)) == []
    (again,) = harness.on_data(("A", "o1", 2))
    assert (again.processing_id, again.attempt) == (request.processing_id, 2)


def test_what_failed_and_was_dropped_has_succeeded_once_the_sdb_announces_its_product(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(CHAIN)
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.CANCELLED)
    harness.clock.advance(91 * DAY_S)
    prune(harness)
    (following,) = harness.make(request, "B", 1)
    assert following.product == "C"
    assert harness.state(request) is State.SUCCEEDED


def test_a_product_new_to_the_graph_is_made_of_dropped_observations(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    (request,) = harness.on_data(("A", "o1", 1))
    harness.make(request, "B", 1)
    harness.clock.advance(31 * DAY_S)
    prune(harness)
    larger = open_ledger(CHAIN)
    assert [each.product for each in larger.on_data(("B", "o1", 1))] == ["C"]


DISPLAYED = {"done", "total", "started", "profiled", "code"}
"""What stays of a processing in the archive alone: no decision about what has ended reads it."""
WAITS = {"not_before", "ask_at"}
"""When it is to be requested or asked about: what has ended is not."""


def test_what_is_put_back_is_all_that_decisions_read(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A", "X"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["X"]}}))
    first, second = harness.on_data(("A", "o1", 1), ("X", "o1", 1))
    harness.make(first, "B", 1)
    harness.apply(
        Refused(processing_id=second.processing_id, asked_attempt=1, error="unknown product")
    )
    ids = {first.processing_id, second.processing_id}
    before = records(harness, ids)
    harness.clock.advance(91 * DAY_S)
    prune(harness)
    assert records(harness, ids) == {}
    harness.on_data(("Y", "o1", 1))
    assert records(harness, ids) == before


def records(harness: Harness, ids: set[str]) -> dict[str, dict[str, object]]:
    """The columns that decisions read, a new one included unless it is told apart above."""
    with harness.engine.begin() as connection:
        found = [record_of(row) for row in locked_rows(connection, ids).values()]
    return {
        each.id: {
            field.name: getattr(each, field.name)
            for field in fields(each)
            if field.name not in DISPLAYED | WAITS
        }
        for each in found
    }


def test_an_operator_makes_a_dropped_product_again(open_ledger: OpenLedger) -> None:
    harness = open_ledger(CHAIN)
    made_chain(harness, "o1")
    harness.clock.advance(31 * DAY_S)
    prune(harness)
    row = harness.ledger.operations.make("B", "o1")
    assert row.inputs == {"A": 1}
    assert len(harness.views.processings({}, 100, None).items) == 3


def test_what_the_sdb_lost_of_a_dropped_observation_is_made_again(open_ledger: OpenLedger) -> None:
    harness = open_ledger(CHAIN)
    made_chain(harness, "o1")
    made = harness.views.processings({"product": "B"}, 1, None).items[0]
    harness.clock.advance(31 * DAY_S)
    prune(harness)
    lost = {"product": "B", "obs_id": "o1"}
    harness.ledger.operations.correct(
        [
            Difference(kind=DifferenceKind.NOT_ARCHIVED, recorded=1, **lost),
            Difference(kind=DifferenceKind.NOT_MADE, processing_id=made.id, **lost),
        ]
    )
    (again,) = harness.ledger.take_due(UNLIMITED)
    assert (again.processing_id, again.attempt, again.remake) == (made.id, 2, True)


def test_why_tells_when_a_record_was_archived_and_where(
    open_ledger: OpenLedger, tmp_path: Path
) -> None:
    harness = open_ledger(CHAIN)
    made_chain(harness, "o1")
    harness.clock.advance(31 * DAY_S)
    (file,) = prune(harness, RULES.model_copy(update={"archive": tmp_path / "archive"})).archive
    why = harness.views.why("C", "o1")
    assert why.answer.startswith("C is succeeded at maker, attempt 1 of ")
    assert why.answer.endswith(f"its record was archived on 1970-02-12, in {file}")
    assert why.available == {"A": 1, "B": 1, "C": 1}
    assert why.processings[0].state is State.SUCCEEDED
    observation = harness.views.observation("o1")
    assert observation is not None
    assert {each.product: each.state for each in observation.products} == dict.fromkeys(
        "ABC", "available"
    )


# ------------------------------------------------------------------ the archive


class Killed(BaseException):
    """The process ends here."""


class KilledAfter(RetentionStore):
    """Is killed after so many steps, each of which leaves something on the disk."""

    steps = 0

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name not in ("begin_batch", "archive_batch", "drop", "archive_dropped", "end_batch"):
            return value

        def step(*args: Any) -> Any:
            if KilledAfter.steps == 0:
                raise Killed
            KilledAfter.steps -= 1
            return value(*args)

        return step


def archive_lines(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*.jsonl.gz")):
        yield from read_archive(folder, str(path.relative_to(folder)))


@pytest.mark.parametrize("steps", range(7))
def test_a_sweep_that_is_killed_loses_no_record_and_archives_none_twice(
    open_ledger: OpenLedger, tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "archive"
    rules = RULES.model_copy(update={"archive": folder})
    harness = open_ledger(CHAIN)
    for number in range(3):
        made_chain(harness, f"o{number}")
    ids = {each.id for each in harness.views.processings({}, 100, None).items}
    harness.clock.advance(31 * DAY_S)
    # One observation in each transaction.
    monkeypatch.setattr("batuta.conductor.pruner.in_chunks", lambda each: [[one] for one in each])
    store = harness.ledger.retention(rules)
    store.__class__ = KilledAfter
    KilledAfter.steps = steps
    if steps < 6:
        with pytest.raises(Killed):
            asyncio.run(Pruner(harness.engine, store, _write).apply())
    # Meanwhile one of them comes alive again, whether it was dropped or not.
    assert harness.on_data(("A", "o1", 2)) == []
    prune(harness, rules)
    left = {each.id for each in harness.views.processings({}, 100, None).items}
    counted = Counter(each["id"] for each in archive_lines(folder))
    assert set(counted) | left == ids
    assert set(counted.values()) == {1}
    harness.clock.advance(60 * DAY_S)
    prune(harness, rules)
    counted = Counter(each["id"] for each in archive_lines(folder))
    assert counted == Counter(ids)
    assert harness.views.processings({}, 100, None).items == []
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("before", range(6))
def test_a_sweep_that_has_lost_its_lock_drops_no_more(
    open_ledger: OpenLedger, tmp_path: Path, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = RULES.model_copy(update={"archive": tmp_path / "archive"})
    harness = open_ledger(CHAIN)
    if harness.engine.dialect.name != "postgresql":
        pytest.skip("SQLite: a lock is lost with its process")
    for number in range(3):
        made_chain(harness, f"o{number}")
    ids = {each.id for each in harness.views.processings({}, 100, None).items}
    harness.clock.advance(31 * DAY_S)
    monkeypatch.setattr("batuta.conductor.pruner.in_chunks", lambda each: [[one] for one in each])
    done: list[str] = []

    async def write(work: Callable[..., T], *args: Any) -> T:
        if len(done) == before:
            _end_session_that_locks(harness.engine)
        found = work(*args)
        done.append("")
        return found

    sweep = Pruner(harness.engine, harness.ledger.retention(rules), write).apply()
    if before < 5:  # it begins, drops three, ends
        with pytest.raises(ArchiveError, match="that locks what is dropped was lost: "):
            asyncio.run(sweep)
        assert len(done) == before
    else:
        asyncio.run(sweep)
    prune(harness, rules)
    assert harness.views.processings({}, 100, None).items == []
    assert Counter(each["id"] for each in archive_lines(tmp_path / "archive")) == Counter(ids)


def _end_session_that_locks(engine: sa.Engine) -> None:
    holder = sa.text(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = :key AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with engine.connect() as connection:
        (pid,) = connection.scalars(holder, {"key": LOCK_KEY})
        assert connection.scalar(sa.select(sa.func.pg_terminate_backend(pid)))


def test_two_conductors_prune_while_news_and_repeats_arrive_and_make_each_product_once(
    open_ledger: OpenLedger, tmp_path: Path
) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"], "on_update": "reprocess"}})
    rules = RULES.model_copy(update={"archive": tmp_path / "archive"})
    harnesses = [open_ledger(graph), open_ledger(graph)]
    observations = [f"o{number}" for number in range(20)]
    for obs_id in observations:
        (request,) = harnesses[0].on_data(("A", obs_id, 1))
        harnesses[0].make(request, "B", 1)
    first = {each.id for each in harnesses[0].views.processings({}, 100, None).items}
    for harness in harnesses:
        harness.clock.advance(31 * DAY_S)

    def receive(harness: Harness) -> list[DueRequest]:
        return [
            request
            for obs_id in observations
            for version in (1, 2)
            for request in harness.on_data(("A", obs_id, version))
        ]

    with ThreadPoolExecutor(4) as pool:
        pruned = [pool.submit(prune, harness, rules) for harness in harnesses]
        asked = [pool.submit(receive, harness) for harness in harnesses]
        requests = [request for each in asked for request in each.result()]
        assert sum(each.result().processings for each in pruned) <= len(observations)
    assert sorted(each.obs_id for each in requests) == sorted(observations)
    for request in requests:
        harnesses[0].make(request, "B", 2)
    harnesses[0].clock.advance(31 * DAY_S)
    prune(harnesses[0], rules)
    counted = Counter(each["id"] for each in archive_lines(tmp_path / "archive"))
    assert counted == Counter(first | {each.processing_id for each in requests})


def test_a_line_of_the_archive_is_a_processing_as_tools_read_it(
    open_ledger: OpenLedger, tmp_path: Path
) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}}))
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.FAILED, error="no luck", code="1.2")
    harness.clock.advance(91 * DAY_S)
    prune(harness, RULES.model_copy(update={"archive": tmp_path}))
    (line,) = archive_lines(tmp_path)
    assert line == {
        "id": request.processing_id,
        "product": "B",
        "obs_id": "o1",
        "state": "failed",
        "attempt": 1,
        "max_attempts": 1,
        "error": "no luck",
        "provider": "maker",
        "inputs": {"A": 1},
        "code": "1.2",
        "created": "1970-01-12T13:46:40+00:00",
        "requested": "1970-01-12T13:46:40+00:00",
        "started": None,
        "ended": "1970-01-12T13:46:40+00:00",
        "archived": "1970-04-13T13:46:40+00:00",
    }


# ------------------------------------------------------------------ dropped at any moment

GRAPH = graph_of(
    ["A", "X"],
    {
        "B": {"m_input": ["A"], "o_input": ["X"], "on_update": "reprocess", "max_attempts": 1},
        "C": {"m_input": ["A"], "max_attempts": 2},
        "D": {"m_input": ["B", "C"], "on_update": "ignore"},
    },
)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.sampled_from("AX"), st.integers(1, 3)),
        st.tuples(st.just("end"), st.integers(0, 3), st.sampled_from(["made", "failed", "lost"])),
        st.tuples(st.just("prune"), st.just(0), st.just(0)),
        st.tuples(st.just("replay"), st.just(0), st.just(0)),
    ),
    min_size=3,
    max_size=25,
)


class Player:
    """Plays steps for one observation, as NATS, the sdb and a pipeline would."""

    def __init__(self, harness: Harness, obs_id: str, *, prunes: bool) -> None:
        self.harness = harness
        self.obs_id = obs_id
        self.prunes = prunes
        self.asked: list[tuple[str, int]] = []
        self.open: list[DueRequest] = []
        self.versions: Counter[str] = Counter()
        self.events: list[tuple[list[Arrival], list[Archived]]] = []

    def play(self, step: tuple[Any, Any, Any]) -> None:
        kind, first, second = step
        if kind == "arrive":
            self.announce([Arrival(first, self.obs_id, second)], [])
        elif kind == "end" and self.open:
            self.end(self.open.pop(first % len(self.open)), second)
        elif kind == "prune":
            # Long enough for what waits for a retry to be due as well.
            self.harness.clock.advance(100 * DAY_S)
            if self.prunes:
                prune(self.harness)
            self.take(self.harness.ledger.take_due(UNLIMITED))
        elif kind == "replay":
            for arrivals, made in list(self.events):
                self.take(self.harness.take_made(arrivals, made))

    def announce(self, arrivals: list[Arrival], made: list[Archived]) -> None:
        self.events.append((arrivals, made))
        self.take(self.harness.take_made(arrivals, made))

    def take(self, requests: list[DueRequest]) -> None:
        own = [each for each in requests if each.obs_id == self.obs_id]
        self.open += own
        self.asked += sorted((each.processing_id, each.attempt) for each in own)

    def end(self, request: DueRequest, how: str) -> None:
        if how == "failed":
            self.harness.report(request, State.FAILED, attempt=request.attempt, error="no luck")
        elif how == "lost":
            self.harness.ledger.operations.cancel(request.processing_id, "cancelled")
        else:
            self.versions[request.product] += 1
            version = self.versions[request.product]
            self.announce(
                [Arrival(request.product, self.obs_id, version, archived=True)],
                [made_by(request)],
            )


def made_by(request: DueRequest) -> Archived:
    return Archived(
        processing_id=request.processing_id,
        product=request.product,
        obs_id=request.obs_id,
        provider=request.provider,
    )


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Harness, Harness]]:
    """Two ledgers of the same graph, which share nothing: one that prunes, one that does not."""
    folder = tmp_path_factory.mktemp("twins")
    harnesses = [Harness(f"sqlite:///{folder / name}.db", GRAPH) for name in ("a", "b")]
    yield harnesses[0], harnesses[1]
    for harness in harnesses:
        harness.close()


def test_dropped_at_any_moment_and_replayed_the_same_is_made(
    twins: tuple[Harness, Harness],
) -> None:
    examples = iter(range(10**9))

    @settings(max_examples=40)
    @given(STEPS)
    def same_requests(steps: list[tuple[Any, Any, Any]]) -> None:
        obs_id = f"o{next(examples)}"
        pruned, whole = (
            Player(harness, obs_id, prunes=each)
            for harness, each in zip(twins, (True, False), strict=True)
        )
        for step in [*steps, ("prune", 0, 0), ("replay", 0, 0), ("prune", 0, 0)]:
            pruned.play(step)
            whole.play(step)
            assert pruned.asked == whole.asked, json.dumps(steps)
        counted = Counter(pruned.asked)
        assert all(number == 1 for number in counted.values())

    same_requests()


# ------------------------------------------------------------------ the service


def test_a_conductor_prunes_on_request_and_reconciles_what_it_dropped(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = {"finished_days": 1e-9, "archive": tmp_path / "archive"}
    with serving(open_conductor, stage.settings(CHAIN, retention=rules)) as url:
        stage.archive("A", "o1")
        eventually_in(url, {"B/o1": "succeeded", "C/o1": "succeeded"})
        eventually_sync(lambda: "C" in get(url, "/why/C/o1")["available"])
        assert run_command(["prune", "--conductor-url", url]) == 0
        assert "batuta prune --apply" in capsys.readouterr().out
        assert states(url) != {}
        assert run_command(["prune", "--apply", "--operator=ana", "--conductor-url", url]) == 0
        (order,) = get(url, "/orders")["items"]
        assert (order["command"], order["by"]) == ("prune --apply", "operator ana (claimed)")
        assert order["about"] == {
            "finished_days": 1e-9,
            "failed_days": "never",
            "archive": str(tmp_path / "archive"),
        }
        assert (order["changed"], order["ended"] is not None) == (2, True)
        assert "archived in" in capsys.readouterr().out
        assert states(url) == {}
        missing = httpx.get(f"{url}/processings/p1").json()["detail"]
        assert missing.endswith(
            "not found (or its record was dropped: batuta why PRODUCT OBS_ID tells)"
        )
        assert {each["product"] for each in archive_lines(tmp_path / "archive")} == {"B", "C"}
        metrics = httpx.get(f"{url}/metrics").text
        assert "batuta_dropped_observations_total 1.0" in metrics
        assert get(url, "/reconciliation")["items"] == []
        assert run_command(["why", "C", "o1", "--conductor-url", url]) == 0
        assert "its record was archived on" in capsys.readouterr().out
        stage.lose("product = 'C'")
        assert run_command(["reconcile", "--apply", "--conductor-url", url]) == 0
        eventually_in(url, {"B/o1": "succeeded", "C/o1": "succeeded"})
    assert stage.asked_for() == [("B", "o1"), ("C", "o1"), ("C", "o1")]


def test_an_archive_that_cannot_be_written_is_told_and_nothing_is_dropped(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    rules = {"finished_days": 1e-9, "archive": tmp_path / "file" / "archive"}
    with serving(open_conductor, stage.settings(CHAIN, retention=rules)) as url:
        stage.archive("A", "o1")
        eventually_in(url, {"B/o1": "succeeded", "C/o1": "succeeded"})
        assert run_command(["prune", "--apply", "--conductor-url", url]) == 1
        assert "nothing is dropped" in capsys.readouterr().err
        assert len(states(url)) == 2
