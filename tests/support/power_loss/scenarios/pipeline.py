"""A pipeline: what it has accepted it makes, and what it has told of a processing stays true."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from batuta.messaging import ProcessingState
from batuta.pipeline import PipelineSettings
from batuta.pipeline.schema import MIGRATIONS, processings
from batuta.sdb import SdbClient, SdbSettings
from batuta.sdb.service import open_sdb
from batuta.service.database import open_database
from tests.pipeline.pipeline_process import PipelineProcess, read
from tests.support.power_loss.points import Recorded, Said
from tests.support.power_loss.recorder import Recorder
from tests.support.power_loss.scenarios.surroundings import Surroundings, check_whole
from tests.support.services import serving
from tests.support.waiting import eventually_sync

PIPELINE: Final = "tests.pipeline.scripted:pipeline"
_TOLD: Final = re.compile(rb'\{"id":"[^"]+","product":.*?"attempt":\d+')
_ENDED: Final = {"succeeded", "failed", "cancelled"}


@contextmanager
def pipeline(around: Surroundings) -> Iterator[Recorded]:
    """Processings that succeed, fail, are tried again, cancelled, and run while it is killed."""
    recorder, before = around.record()
    stage = around.folder / "stage"
    stage.mkdir()
    with _sdb(around) as sdb_url:
        settings = _settings(recorder.root, around.nats.url, sdb_url)
        service = PipelineProcess(PIPELINE, settings, stage, environment=recorder.environment)
        service.start()
        try:
            _work(service, recorder)
            yield Recorded(recorder, before, _Promises(around, sdb_url, stage))
        finally:
            service.kill()
            service.http.close()


def _work(service: PipelineProcess, recorder: Recorder) -> None:
    assert service.make("MANY", "o1", processing_id="p-many")["state"] == "succeeded"
    assert service.make("FAILS_ONCE", "o1", processing_id="p-again")["state"] == "failed"
    again = service.make("FAILS_ONCE", "o1", processing_id="p-again", attempt=2)
    assert again["state"] == "succeeded"
    waiting = service.post("WAITS", "o1", processing_id="p-waits")
    cancelled = service.post("WAITS", "o2", processing_id="p-cancelled")
    read(service.stage / "entered")
    service.http.delete("/processing/p-cancelled").raise_for_status()
    service.end_of(cancelled)
    with recorder.between_calls():
        service.kill()
    (service.stage / "go on").touch()
    service.start()
    assert service.end_of(waiting)["state"] == "succeeded"
    assert service.make("MANY", "o2", processing_id="p-last")["state"] == "succeeded"
    service.stop()


@contextmanager
def _sdb(around: Surroundings) -> Iterator[str]:
    settings = SdbSettings(
        port=0,
        nats_url=around.nats.url,
        database_url=f"sqlite:///{around.folder}/sdb.db",
        store_url=str(around.folder / "store"),
    )
    with serving(open_sdb, settings) as url:
        yield url


def _settings(disk: Path, nats_url: str, sdb_url: str) -> PipelineSettings:
    return PipelineSettings(
        port=0,
        nats_url=nats_url,
        sdb_url=sdb_url,
        data_dir=disk / "data",
        max_concurrent=2,
    )


@dataclass(frozen=True)
class _Told:
    """What was told of a processing: in answers, and on NATS."""

    id: str
    state: str
    attempt: int


def _told(said: Said) -> set[_Told]:
    """Return all that the service told."""
    found = set()
    for message in said:
        for record in _TOLD.findall(message):
            told = json.loads(record + b"}")
            found.add(_Told(told["id"], told["state"], told["attempt"]))
    return found


class _Promises:
    def __init__(self, around: Surroundings, sdb_url: str, stage: Path) -> None:
        self._around = around
        self._sdb_url = sdb_url
        self._stage = stage

    def check(self, left: Path, said: Said) -> None:
        """Assert that all that was told is recorded."""
        records = self._records(left)
        for told in _told(said):
            assert told.id in records, f"{told.id} was told to be {told.state}, and is lost"
            record = records[told.id]
            assert record.attempt >= told.attempt, f"{told.id}: attempt {told.attempt} is lost"
            if told.state in _ENDED and record.attempt == told.attempt:
                assert record.state == told.state, f"{told.id}: {told.state} is {record.state}"

    def recover(self, left: Path, _said: Said, environment: Mapping[str, str]) -> "_Promises":
        """End all that is recorded, and make more."""
        settings = _settings(left, self._around.nats.url, self._sdb_url)
        service = PipelineProcess(PIPELINE, settings, self._stage, environment=environment)
        service.start()
        try:
            for each in service.records():
                service.end_of(each)
            made = service.make("MANY", "o3", processing_id="p-recovered")
            assert made["state"] == "succeeded"
            assert service.stop() == 0
        finally:
            service.kill()
            service.http.close()
        return self

    def check_restart(self, left: Path, _said: Said) -> None:
        """Assert that a service ends all that is recorded, and answers for it."""
        settings = _settings(left, self._around.nats.url, self._sdb_url)
        service = PipelineProcess(PIPELINE, settings, self._stage)
        service.start()
        try:
            eventually_sync(
                lambda: {each.state for each in self._records(left).values()} <= _ENDED, 60
            )
            for each in self._records(left):
                log = service.http.get(f"/processing/{each}/log")
                assert not log.is_server_error, f"log of {each}: {log.text}"
        finally:
            service.kill()
            service.http.close()
        self._check_products({each.id for each in self._records(left).values()})

    def _check_products(self, ids: set[str]) -> None:
        with SdbClient(self._sdb_url) as sdb:
            versions = [each.version for each in sdb.list() if each.processing_id in ids]
        assert set(versions) <= {1}, versions

    def _records(self, left: Path) -> dict[str, sa.Row[Any]]:
        settings = _settings(left, self._around.nats.url, self._sdb_url)
        settings.folder("").mkdir(exist_ok=True)
        with open_database(settings.database("scripted_pipeline"), MIGRATIONS) as engine:
            check_whole(engine)
            with engine.connect() as connection:
                rows = connection.execute(sa.select(processings)).all()
        states = [each.value for each in ProcessingState]
        assert {row.state for row in rows} <= set(states)
        return {row.id: row for row in rows}
