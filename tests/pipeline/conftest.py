"""A real sdb, a real NATS, and pipeline services each a process of its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from batuta.pipeline import PipelineSettings
from batuta.sdb import SdbClient, SdbSettings
from batuta.sdb.service import open_sdb
from tests.pipeline.pipeline_process import PipelineProcess
from tests.support.servers import NatsServer
from tests.support.services import serving

StartPipeline = Callable[..., PipelineProcess]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder through which a test and the functions of `scripted` meet."""
    folder = tmp_path / "stage"
    folder.mkdir()
    monkeypatch.setenv("BATUTA_TEST_STAGE", str(folder))
    return folder


@pytest.fixture
def sdb_settings(tmp_path: Path, shared_nats: NatsServer) -> SdbSettings:
    """Settings of an sdb of its own."""
    return SdbSettings(
        port=0,
        nats_url=shared_nats.url,
        database_url=f"sqlite:///{tmp_path / 'sdb.db'}",
        store_url=str(tmp_path / "store"),
    )


@pytest.fixture
def sdb_url(sdb_settings: SdbSettings) -> Iterator[str]:
    """An sdb."""
    with serving(open_sdb, sdb_settings) as url:
        yield url


@pytest.fixture
def sdb(sdb_url: str) -> Iterator[SdbClient]:
    """A client of `sdb_url`."""
    with SdbClient(sdb_url, retry_for_s=10) as client:
        yield client


@pytest.fixture
def settings(tmp_path: Path, shared_nats: NatsServer, sdb_url: str) -> PipelineSettings:
    """Settings of a pipeline in a folder of its own."""
    return PipelineSettings(
        port=0,
        nats_url=shared_nats.url,
        sdb_url=sdb_url,
        data_dir=tmp_path / "pipeline",
        max_concurrent=2,
    )


@pytest.fixture
def start_pipeline(stage: Path, settings: PipelineSettings) -> Iterator[StartPipeline]:
    """Start services, killed at the end of the test."""
    with ExitStack() as stack:

        def start(
            named: str = "tests.pipeline.scripted:pipeline", **changes: object
        ) -> PipelineProcess:
            changed = PipelineSettings.model_validate({**dict(settings), **changes})
            service = PipelineProcess(named, changed)
            stack.callback(service.http.close)
            stack.callback(service.kill)
            service.start()
            return service

        yield start


@pytest.fixture
def service(start_pipeline: StartPipeline) -> PipelineProcess:
    """A service of the scripted pipeline."""
    return start_pipeline()


@pytest.fixture
def events(sdb: SdbClient, tmp_path: Path) -> str:
    """An obs_id whose EVENTS are in the sdb."""
    path = tmp_path / "events.txt"
    path.write_text("1 2 3\n")
    sdb.import_file(path, "EVENTS", "sb1")
    return "sb1"
