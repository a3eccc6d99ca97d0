"""A conductor: events that it has acknowledged, requests that it has sent and orders are there."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import sqlalchemy as sa

from batuta.conductor.assembly import open_records
from batuta.conductor.database.schema import events, processings
from batuta.conductor.settings import ConductorSettings
from batuta.service.record_archive import SUFFIX, read_archive
from batuta.service.retention import RetentionRules
from tests.conductor.graphs import graph_of
from tests.conductor.stage import Stage, eventually_in, states
from tests.support.power_loss.points import Recorded, Said
from tests.support.power_loss.recorder import Recorder
from tests.support.power_loss.scenarios.conductor_world import (
    ACKNOWLEDGED,
    Request,
    World,
    requests,
    stage_in,
    world_of,
)
from tests.support.power_loss.scenarios.surroundings import (
    Surroundings,
    check_whole,
    was_said,
)
from tests.support.services import ServiceProcess
from tests.support.waiting import eventually_sync

GRAPH: Final = graph_of(["A"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["B"]}})
HELD: Final = "held-for-new-darks"
RELEASED: Final = "released-with-new-darks"
ARCHIVE: Final = "new/archive"
NOTE: Final = "a-graph-without-C"
MADE: Final = {f"B/o{number}" for number in range(1, 6)} | {f"C/o{n}" for n in range(1, 5)}
"""What is made of all that is announced, whenever it is; of o5, C only by the first graph."""
GO_ON_S: Final = 60.0


@contextmanager
def conductor(around: Surroundings) -> Iterator[Recorded]:
    """Products of observations, orders, a new graph, an end, a kill, and what is archived."""
    recorder, before = around.record()
    folder = around.folder / "stage"
    folder.mkdir()
    with stage_in(folder, around.nats) as stage:
        service = ServiceProcess(
            "batuta.conductor:run", _settings(stage, recorder.root), recorder.environment
        )
        try:
            _work(stage, service, recorder)
            _prune(_settings(stage, recorder.root), recorder)
        finally:
            service.kill()
        world = world_of(stage)
    yield Recorded(recorder, before, _Promises(world))


def _work(stage: Stage, service: ServiceProcess, recorder: Recorder) -> None:
    stage.pipeline.outcomes["B"].append("failed")
    url = service.start()
    stage.announce("A", "o1", "o2")
    made = {f"{product}/{obs_id}": "succeeded" for product in "BC" for obs_id in ("o1", "o2")}
    eventually_in(url, made)
    service.stop()
    url = service.start()
    _order(url, "/holds", {"product": "C", "reason": HELD})
    stage.announce("A", "o3", "o4")
    made |= {f"B/{obs_id}": "succeeded" for obs_id in ("o3", "o4")}
    held = {f"C/{obs_id}": "held" for obs_id in ("o3", "o4")}
    eventually_in(url, made | held)
    with recorder.between_calls():
        service.kill()
    url = service.start()
    holds = httpx.get(f"{url}/holds").raise_for_status().json()["items"]
    _order(url, f"/holds/{holds[0]['number']}/release", {"reason": RELEASED})
    eventually_in(url, made | dict.fromkeys(held, "succeeded"))
    document = graph_of(["A"], {"B": {"m_input": ["A"]}}).as_document()
    _order(url, "/graph/versions", {"graph": document, "note": NOTE})
    stage.announce("A", "o5")
    eventually_sync(lambda: ("B", "o5") in stage.asked_for())
    service.stop()


def _prune(settings: ConductorSettings, recorder: Recorder) -> None:
    """Archive and drop the records of all that has ended."""
    rules = RetentionRules(finished_days=1e-9, archive=recorder.root / ARCHIVE)
    pruning = settings.model_copy(update={"retention": rules})
    service = ServiceProcess("batuta.conductor:run", pruning, recorder.environment)
    url = service.start()
    try:
        httpx.post(f"{url}/retention", timeout=60).raise_for_status()
        service.stop()
    finally:
        service.kill()


def _order(url: str, path: str, body: object) -> None:
    answer = httpx.post(f"{url}{path}", json=body)
    assert answer.is_success, answer.text


def _settings(stage: Stage, disk: Path) -> ConductorSettings:
    return stage.settings(GRAPH, database_url=_database(disk))


def _database(disk: Path) -> str:
    return f"sqlite:///{disk}/data/conductor.db"


class _Promises:
    def __init__(self, world: World) -> None:
        self._world = world
        self._graph = world.folder / "graph.json"
        self._graph.write_text(json.dumps(GRAPH.as_document()))

    def check(self, left: Path, said: Said) -> None:
        """Assert that what was acknowledged, requested and ordered is recorded."""
        settings = ConductorSettings(graph=self._graph, database_url=_database(left))
        with open_records(settings) as records:
            check_whole(records.engine)
            with records.engine.connect() as connection:
                heard = set(connection.scalars(sa.select(events.c.sequence)))
                claimed = set(connection.scalars(sa.select(processings.c.id)))
                text = _all_of(connection)
        archived = {each.id for each in _archived(left / ARCHIVE)}
        for message in said:
            acknowledged = {int(each) for each in ACKNOWLEDGED.findall(message)}
            assert acknowledged <= heard, f"acknowledged, and lost: {acknowledged - heard}"
        requested = {each.id for each in requests(said)} - archived
        assert requested <= claimed, f"requested, and lost: {requested - claimed}"
        for order in (HELD, RELEASED, NOTE):
            assert order in text or not was_said(order, said), f"{order} was answered, and is lost"

    def check_restart(self, left: Path, said: Said) -> None:
        """Assert that a conductor makes the rest, and asks for nothing twice."""
        with self._world.as_of(said) as stage:
            _go_on(stage, left, {})
            _check_asked_once(stage, said)
        self.check(left, said)

    def recover(self, left: Path, said: Said, environment: Mapping[str, str]) -> "_Promises":
        """Make the rest."""
        with self._world.as_of(said) as stage:
            _go_on(stage, left, environment)
            return _Promises(world_of(stage))


def _go_on(stage: Stage, left: Path, environment: Mapping[str, str]) -> None:
    """Start a conductor, and end it once all is made of what was announced."""
    service = ServiceProcess("batuta.conductor:run", _settings(stage, left), environment)
    url = service.start()
    try:
        with contextlib.suppress(AssertionError):
            eventually_sync(lambda: not _missing(url, left), GO_ON_S)
        assert not _missing(url, left), f"not made: {_missing(url, left)}"
        assert service.stop() == 0
    finally:
        service.kill()


def _missing(url: str, left: Path) -> dict[str, str]:
    """Return what is not made, or is under way: each with its state."""
    found = dict.fromkeys(MADE, "unknown") | {
        f"{each.product}/{each.obs_id}": "succeeded" for each in _archived(left / ARCHIVE)
    }
    found |= states(url)
    return {key: state for key, state in found.items() if state not in {"succeeded", "held"}}


def _check_asked_once(stage: Stage, said: Said) -> None:
    """Assert that nothing is made twice, of all that was ever asked for."""
    new = [
        Request(each["processing_id"], each["product"], each["obs_id"], each["attempt"])
        for each in stage.pipeline.requests
    ]
    assert len(new) == len(set(new)), f"requested twice: {new}"
    by_key: dict[tuple[str, str], set[str]] = {}
    for each in [*requests(said), *new]:
        by_key.setdefault((each.product, each.obs_id), set()).add(each.id)
    twice = {key: ids for key, ids in by_key.items() if len(ids) > 1}
    assert not twice, f"requested by two processings: {twice}"
    versions = {version for _, _, version in stage.archived()}
    assert versions <= {1}, f"made again: {sorted(stage.archived())}"


def _archived(folder: Path) -> list[Request]:
    """Return the processings whose records are in an archive."""
    names = [f"{path.parent.name}/{path.name}" for path in folder.glob(f"*/*{SUFFIX}")]
    return [
        Request(each["id"], each["product"], each["obs_id"], each["attempt"])
        for name in names
        for each in read_archive(folder, name)
    ]


def _all_of(connection: sa.Connection) -> str:
    """Return all that a database holds, as text."""
    driver = connection.connection.driver_connection
    assert driver is not None
    return "\n".join(driver.iterdump())
