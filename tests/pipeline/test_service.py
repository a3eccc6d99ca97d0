"""Starting a pipeline service: what prevents it is reported in one line."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from batuta.errors import ConfigurationError
from batuta.messaging import MessagingError
from batuta.pipeline import Context, Pipeline, PipelineSettings, run
from batuta.pipeline.service import open_pipeline
from batuta.pipeline.store import ProcessingStore
from tests.pipeline import scripted
from tests.pipeline.conftest import StartPipeline
from tests.pipeline.pipeline_process import PipelineProcess, read
from tests.support.servers import NatsServer, free_port


def test_a_pipeline_that_makes_nothing_is_refused(settings: PipelineSettings) -> None:
    with pytest.raises(ConfigurationError, match="'empty_pipeline': declares no product"):
        run(settings, scripted.empty)


async def test_a_function_that_no_other_process_can_import_is_refused(
    settings: PipelineSettings,
) -> None:
    pipeline = Pipeline("local_pipeline")

    @pipeline.product("LOCAL")
    def local(context: Context) -> Path:
        return context.output_path("x")

    with pytest.raises(ConfigurationError, match="product 'LOCAL': its function must be at the"):
        async with open_pipeline(settings, "http://127.0.0.1:1", pipeline):
            pass


async def test_two_services_do_not_share_a_folder(
    service: PipelineProcess,
) -> None:
    with pytest.raises(ConfigurationError, match="in use by another service"):
        async with open_pipeline(service.settings, "http://127.0.0.1:1", scripted.pipeline):
            pass


def test_a_port_in_use_is_reported(service: PipelineProcess, settings: PipelineSettings) -> None:
    port = service.http.base_url.port
    with pytest.raises(ConfigurationError, match=f"--port {port} on 127.0.0.1: "):
        run(settings.model_copy(update={"port": port}), scripted.pipeline)


async def test_an_unreachable_nats_is_waited_for_then_reported(
    settings: PipelineSettings, tmp_path: Path
) -> None:
    away = f"nats://127.0.0.1:{free_port()}"
    given = settings.model_copy(
        update={"nats_url": away, "nats_wait_s": 0.5, "data_dir": tmp_path / "other"}
    )
    with pytest.raises(MessagingError, match=r"could not connect to NATS at .* within 0\.5 s"):
        async with open_pipeline(given, "http://127.0.0.1:1", scripted.pipeline):
            pass


async def test_a_database_that_refuses_while_old_files_are_looked_for_does_not_end_the_service(
    settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[float] = []
    again = asyncio.Event()

    async def expired_keys(_store: ProcessingStore, before_s: float) -> list[str]:
        looked.append(before_s)
        if len(looked) == 1:
            raise OperationalError("SELECT", {}, OSError("the disk is away"))
        again.set()
        return []

    monkeypatch.setattr(ProcessingStore, "expired_keys", expired_keys)
    monkeypatch.setattr("batuta.pipeline.service_core.RETRY_S", 0.0)
    async with open_pipeline(settings, "http://127.0.0.1:1", scripted.pipeline) as service:
        running = asyncio.create_task(service._remove_expired_files())
        await again.wait()
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])


async def test_processings_continue_while_nats_is_down(
    start_pipeline: StartPipeline, own_nats: NatsServer
) -> None:
    service = await asyncio.to_thread(start_pipeline, nats_url=own_nats.url)
    record = await asyncio.to_thread(service.post, "WAITS")
    await asyncio.to_thread(read, service.stage / "entered")
    own_nats.stop()
    (service.stage / "go on").touch()
    ended = await asyncio.to_thread(service.end_of, record)
    assert ended["state"] == "succeeded"
    checks = service.http.get("/health").json()["checks"]
    assert checks == {"nats": False, "database": True, "retention": True}
    again = await asyncio.to_thread(service.make, "MANY")
    assert again["state"] == "succeeded"
