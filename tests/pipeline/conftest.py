"""A real sdb, a real NATS, and pipeline services each a process of its own.

Services take seconds of processor time to start. Tests share one of each pipeline, and ask it
for what has ids of their own; those that kill, restart, configure or count start their own.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from batuta.pipeline import PipelineSettings
from batuta.sdb import SdbClient, SdbSettings
from tests.pipeline.pipeline_process import PipelineProcess
from tests.support.databases import migrated_sqlite
from tests.support.servers import NatsServer
from tests.support.services import ServiceProcess

SCRIPTED = "tests.pipeline.scripted:pipeline"
PROFILED = "tests.pipeline.profiled:pipeline"
TILED = "tests.pipeline.tiled:pipeline"

StartPipeline = Callable[..., PipelineProcess]


@pytest.fixture
def obs_id() -> str:
    """An obs_id that no other test uses."""
    return f"o-{uuid.uuid4().hex}"


@pytest.fixture
def processing_id() -> str:
    """A processing_id that no other test uses."""
    return f"p-{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def sdb_url(tmp_path_factory: pytest.TempPathFactory, shared_nats: NatsServer) -> Iterator[str]:
    """An sdb that tests share: what they count, they count of their own `obs_id`.

    A process of its own: as a thread, it would allocate memory while other tests look for leaks.
    """
    folder = tmp_path_factory.mktemp("sdb")
    settings = SdbSettings(
        port=0,
        nats_url=shared_nats.url,
        database_url=migrated_sqlite(folder / "sdb.db"),
        store_url=str(folder / "store"),
    )
    service = ServiceProcess("batuta.sdb:run", settings)
    yield service.start()
    service.kill()


@pytest.fixture(scope="session")
def sdb(sdb_url: str) -> Iterator[SdbClient]:
    """A client of `sdb_url`."""
    with SdbClient(sdb_url, retry_for_s=10) as client:
        yield client


@pytest.fixture
def events(sdb: SdbClient, obs_id: str, tmp_path: Path) -> str:
    """An obs_id whose EVENTS are in the sdb."""
    path = tmp_path / "events.txt"
    path.write_text("1 2 3\n")
    sdb.import_file(path, "EVENTS", obs_id)
    return obs_id


class SharedServices:
    """A service of each pipeline, started when it is first asked for."""

    def __init__(self, folder: Path, nats_url: str, sdb_url: str) -> None:
        self._folder = folder
        self._nats_url = nats_url
        self._sdb_url = sdb_url
        self._services: dict[str, PipelineProcess] = {}

    @contextmanager
    def lend(self, reference: str) -> Iterator[PipelineProcess]:
        """Lend a service to a test; take it back with an empty stage and nothing to do."""
        if reference not in self._services:
            self._services[reference] = self._start(reference)
        service = self._services[reference]
        try:
            yield service
        finally:
            service.cancel_all()
            shutil.rmtree(service.stage)
            service.stage.mkdir()

    def _start(self, reference: str) -> PipelineProcess:
        folder = self._folder / str(len(self._services))
        stage = folder / "stage"
        stage.mkdir(parents=True)
        settings = PipelineSettings(
            port=0,
            nats_url=self._nats_url,
            sdb_url=self._sdb_url,
            data_dir=folder / "pipeline",
            max_concurrent=2,
        )
        service = PipelineProcess(reference, settings, stage)
        service.start()
        return service

    def kill(self) -> None:
        for service in self._services.values():
            service.http.close()
            service.kill()


@pytest.fixture(scope="session")
def shared_services(
    tmp_path_factory: pytest.TempPathFactory, shared_nats: NatsServer, sdb_url: str
) -> Iterator[SharedServices]:
    """The services that tests share."""
    services = SharedServices(tmp_path_factory.mktemp("services"), shared_nats.url, sdb_url)
    yield services
    services.kill()


@pytest.fixture
def service(shared_services: SharedServices) -> Iterator[PipelineProcess]:
    """The shared service of the scripted pipeline."""
    with shared_services.lend(SCRIPTED) as lent:
        yield lent


@pytest.fixture
def profiled(shared_services: SharedServices) -> Iterator[PipelineProcess]:
    """The shared service of the profiled pipeline."""
    with shared_services.lend(PROFILED) as lent:
        yield lent


@pytest.fixture
def tiled(shared_services: SharedServices) -> Iterator[PipelineProcess]:
    """The shared service of the tiled pipeline."""
    with shared_services.lend(TILED) as lent:
        yield lent


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
def start_pipeline(tmp_path: Path, settings: PipelineSettings) -> Iterator[StartPipeline]:
    """Start services of the test's own, killed at its end; they have one stage."""
    stage = tmp_path / "stage"
    stage.mkdir()
    with ExitStack() as stack:

        def start(reference: str = SCRIPTED, **changes: object) -> PipelineProcess:
            changed = PipelineSettings.model_validate({**dict(settings), **changes})
            service = PipelineProcess(reference, changed, stage)
            stack.callback(service.http.close)
            stack.callback(service.kill)
            service.start()
            return service

        yield start


@pytest.fixture
def own_service(start_pipeline: StartPipeline) -> PipelineProcess:
    """A service of the scripted pipeline that the test may kill."""
    return start_pipeline()
