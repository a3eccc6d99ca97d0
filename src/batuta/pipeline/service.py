"""A pipeline as a service: REST, its activity on NATS, a process for each processing."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from batuta.errors import ConfigurationError
from batuta.pipeline.declaration import Pipeline
from batuta.pipeline.loading import load
from batuta.pipeline.process_runner import RunnerConfig, open_process_runner
from batuta.pipeline.scheduler import Offer
from batuta.pipeline.service_core import ProcessingService, ServiceSpec, lock_data_dir, open_service
from batuta.pipeline.settings import PipelineSettings
from batuta.service.log_files import MB
from batuta.service.runner import run_service

__all__ = ["load", "open_pipeline", "run"]


def run(settings: PipelineSettings, pipeline: Pipeline) -> None:
    """Serve `pipeline` until SIGINT or SIGTERM.

    Raises
    ------
    ConfigurationError
        If it makes nothing, cannot be loaded by another process, or cannot listen.
    BatutaError
        If a service or a database that it needs is unavailable.
    """
    if not pipeline.products:
        raise ConfigurationError(f"pipeline {pipeline.name!r}: declares no product")

    @asynccontextmanager
    async def opened(settings: PipelineSettings, url: str) -> AsyncIterator[ProcessingService]:
        async with open_pipeline(settings, url, pipeline) as service:
            yield service

    run_service(pipeline.name, settings, opened)


@asynccontextmanager
async def open_pipeline(
    settings: PipelineSettings, url: str, pipeline: Pipeline
) -> AsyncIterator[ProcessingService]:
    """Open the service of `pipeline`; `url` is the address that it listens on."""
    folder = settings.folder(pipeline.name)
    config = RunnerConfig(
        specs=dict(pipeline.products),
        folder=folder,
        sdb_url=settings.sdb_url,
        token=settings.token_text,
        max_log_bytes=int(settings.log_max_mb * MB),
    )
    offers = {
        name: Offer(pipeline.name, product.timeout_s) for name, product in pipeline.products.items()
    }
    with lock_data_dir(folder), open_process_runner(config, _module_of(pipeline)) as runner:
        spec = ServiceSpec(
            name=pipeline.name,
            description=_description(pipeline),
            offers=offers,
            runner=runner,
            retention=config.retention,
            keep_s=settings.keep_s,
        )
        async with open_service(settings, url, spec) as service:
            yield service


def _description(pipeline: Pipeline) -> str:
    return f"Makes {', '.join(pipeline.products)}."


def _module_of(pipeline: Pipeline) -> str | None:
    """Module to load in advance: that of its functions."""
    for spec in pipeline.products.values():
        module = getattr(spec.function, "__module__", None)
        if module in sys.modules:
            return str(module)
    return None
