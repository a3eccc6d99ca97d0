"""A conductor: events that it has acknowledged, requests that it has sent and orders are there."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import sqlalchemy as sa

from batuta.conductor.assembly import open_records
from batuta.conductor.database.schema import events, processings
from batuta.conductor.settings import ConductorSettings
from batuta.sdb import SdbSettings
from batuta.sdb.service import open_sdb
from batuta.service.record_archive import SUFFIX, read_archive
from batuta.service.retention import RetentionRules
from batuta.service.settings import ServiceSettings
from tests.conductor.graphs import graph_of
from tests.conductor.stage import Stage, eventually_in
from tests.support.power_loss.points import Recorded, Said
from tests.support.power_loss.recorder import Recorder
from tests.support.power_loss.scenarios.surroundings import (
    Surroundings,
    check_whole,
    was_said,
)
from tests.support.services import ServiceProcess, serving
from tests.support.waiting import eventually_sync

GRAPH: Final = graph_of(["A"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["B"]}})
HELD: Final = "held-for-new-darks"
RELEASED: Final = "released-with-new-darks"
ARCHIVE: Final = "new/archive"
NOTE: Final = "a-graph-without-C"
_ACKNOWLEDGED: Final = re.compile(
    rb"PUB \$JS\.ACK\.DATA\.[^. ]+\.\d+\.(\d+)\.\S+ +(?:0\r|4\r\n\+ACK)"
)
_REQUESTED: Final = re.compile(
    rb'POST /pipeline/processing .*?"processing_id": ?"([^"]+)"', re.DOTALL
)


@contextmanager
def conductor(around: Surroundings) -> Iterator[Recorded]:
    """Products of observations, orders, a new graph, an end, a kill, and what is archived."""
    recorder, before = around.record()
    with _stage(around) as stage:
        settings = _settings(stage, recorder.root)
        service = ServiceProcess("batuta.conductor:run", settings, recorder.environment)
        try:
            _work(stage, service, recorder)
            _prune(settings, recorder)
            yield Recorded(recorder, before, _Promises(settings))
        finally:
            service.kill()


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


@contextmanager
def _stage(around: Surroundings) -> Iterator[Stage]:
    folder = around.folder
    settings = SdbSettings(
        port=0,
        nats_url=around.nats.url,
        database_url=f"sqlite:///{folder}/sdb.db",
        store_url=str(folder / "store"),
    )
    with serving(open_sdb, settings) as sdb_url:
        stage = Stage(folder, around.nats, sdb_url)
        with serving(stage.pipeline.open, ServiceSettings(port=0)) as stage.pipeline_url:
            yield stage


def _settings(stage: Stage, disk: Path) -> ConductorSettings:
    return stage.settings(GRAPH, database_url=f"sqlite:///{disk}/data/conductor.db")


class _Promises:
    def __init__(self, settings: ConductorSettings) -> None:
        self._settings = settings

    def check(self, left: Path, said: Said) -> None:
        """Assert that what was acknowledged, requested and ordered is recorded."""
        url = f"sqlite:///{left}/data/conductor.db"
        with open_records(self._settings.model_copy(update={"database_url": url})) as records:
            check_whole(records.engine)
            with records.engine.connect() as connection:
                heard = set(connection.scalars(sa.select(events.c.sequence)))
                claimed = set(connection.scalars(sa.select(processings.c.id)))
                text = _all_of(connection)
        archived = _archived(left / ARCHIVE)
        for message in said:
            acknowledged = {int(each) for each in _ACKNOWLEDGED.findall(message)}
            assert acknowledged <= heard, f"acknowledged, and lost: {acknowledged - heard}"
            requested = {each.decode() for each in _REQUESTED.findall(message)} - archived
            assert requested <= claimed, f"requested, and lost: {requested - claimed}"
        for order in (HELD, RELEASED, NOTE):
            assert order in text or not was_said(order, said), f"{order} was answered, and is lost"

    def check_restart(self, left: Path) -> None:
        """Nothing more: what surrounds it is later than the loss, as no disk is."""


def _archived(folder: Path) -> set[str]:
    """Return the processings whose records are in an archive."""
    names = [f"{path.parent.name}/{path.name}" for path in folder.glob(f"*/*{SUFFIX}")]
    return {str(record["id"]) for name in names for record in read_archive(folder, name)}


def _all_of(connection: sa.Connection) -> str:
    """Return all that a database holds, as text."""
    driver = connection.connection.driver_connection
    assert driver is not None
    return "\n".join(driver.iterdump())
