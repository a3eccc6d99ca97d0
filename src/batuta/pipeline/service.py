"""A pipeline as a service: REST, its activity on NATS, a process for each processing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from batuta.errors import ConfigurationError
from batuta.pipeline.code_watch import CodeWatcher
from batuta.pipeline.declaration import Pipeline
from batuta.pipeline.loading import load
from batuta.pipeline.process_runner import RunnerConfig, open_process_runner
from batuta.pipeline.process_starter import CodeSource, Generation
from batuta.pipeline.scheduler import Offer
from batuta.pipeline.service_core import ProcessingService, ServiceSpec, lock_data_dir, open_service
from batuta.pipeline.settings import PipelineSettings
from batuta.service.database import with_password_of_environment
from batuta.service.log_files import MB
from batuta.service.runner import run_service

__all__ = ["load", "open_pipeline", "run"]


def run(settings: PipelineSettings, pipeline: Pipeline, reference: str | None = None) -> None:
    """Serve `pipeline`, loaded from `reference`, until SIGINT or SIGTERM.

    Raises
    ------
    ConfigurationError
        If it makes nothing, cannot be loaded by another process, or cannot listen.
    BatutaError
        If a service or a database that it needs is unavailable.
    """
    if settings.reload and reference is None:
        raise ConfigurationError(
            f"pipeline {pipeline.name!r}: reload: only of what is named MODULE:NAME, or of a file"
        )
    if not pipeline.products:
        raise ConfigurationError(f"pipeline {pipeline.name!r}: declares no product")

    @asynccontextmanager
    async def opened(settings: PipelineSettings, url: str) -> AsyncIterator[ProcessingService]:
        async with open_pipeline(settings, url, pipeline, reference) as service:
            yield service

    run_service(pipeline.name, settings, opened)


@asynccontextmanager
async def open_pipeline(
    settings: PipelineSettings, url: str, pipeline: Pipeline, reference: str | None = None
) -> AsyncIterator[ProcessingService]:
    """Open the service of `pipeline`; `url` is the address that it listens on."""
    database = with_password_of_environment(settings.database(pipeline.name))
    settings = settings.model_copy(update={"database_url": database})
    folder = settings.folder(pipeline.name)
    config = RunnerConfig(
        source=CodeSource(
            name=pipeline.name,
            specs=dict(pipeline.products),
            reference=reference,
            reload=settings.reload,
        ),
        folder=folder,
        sdb_url=settings.sdb_url,
        token=settings.token_text,
        max_log_bytes=int(settings.log_max_mb * MB),
    )
    with lock_data_dir(folder), open_process_runner(config) as runner:
        spec = ServiceSpec(
            name=pipeline.name,
            description=_description(pipeline),
            offers=_offers(runner.generation),
            runner=runner,
            retention=config.retention,
            keep_s=settings.keep_s,
            tiles=runner.tiles,
        )
        async with open_service(settings, url, spec) as service:
            watcher = CodeWatcher(
                runner,
                reload=settings.reload,
                on_notice=service.publish_notice,
                on_reload=lambda loaded: service.scheduler.replace_offers(_offers(loaded)),
            )
            service.background.append(watcher.run)
            yield service


def _offers(generation: Generation) -> dict[str, Offer]:
    return {name: Offer(generation.name, spec.timeout_s) for name, spec in generation.specs.items()}


def _description(pipeline: Pipeline) -> str:
    return f"Makes {', '.join(pipeline.products)}."
