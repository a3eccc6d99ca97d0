"""A pipeline as a service: REST, its activity on NATS, a process for each processing."""

import asyncio
import fcntl
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from batuta import __version__
from batuta.errors import ConfigurationError
from batuta.messaging import Bus, ServiceStatus, connect
from batuta.pipeline.bodies import PipelineProcessing
from batuta.pipeline.declaration import Pipeline
from batuta.pipeline.loading import load
from batuta.pipeline.processes import Workshop, open_process_runner
from batuta.pipeline.routes import Routes
from batuta.pipeline.runner import Runner
from batuta.pipeline.scheduler import Offer, Rules, Scheduler
from batuta.pipeline.schema import MIGRATIONS
from batuta.pipeline.settings import PipelineSettings
from batuta.pipeline.store import Store
from batuta.pipeline.writer import Writer
from batuta.service.activity import ActivityReporter
from batuta.service.app import AppConfig, create_app
from batuta.service.database import open_database
from batuta.service.runner import run_service

__all__ = ["PipelineService", "Plan", "load", "open_pipeline", "open_service", "run"]

LOGS_SWEPT_EVERY_S: Final = 3600.0


def run(settings: PipelineSettings, pipeline: Pipeline) -> None:
    """Serve `pipeline` until SIGINT or SIGTERM.

    Raises
    ------
    ConfigurationError
        If it makes nothing, cannot be loaded by another process, or cannot listen.
    BatutaError
        If something that it needs is not there.
    """
    if not pipeline.products:
        raise ConfigurationError(f"pipeline {pipeline.name!r}: it declares no product")

    @asynccontextmanager
    async def opened(settings: PipelineSettings, url: str) -> AsyncIterator[PipelineService]:
        async with open_pipeline(settings, url, pipeline) as service:
            yield service

    run_service(pipeline.name, settings, opened)


@asynccontextmanager
async def open_pipeline(
    settings: PipelineSettings, url: str, pipeline: Pipeline
) -> AsyncIterator["PipelineService"]:
    """Open the service of `pipeline`; `url` is the address that it listens on."""
    folder = settings.folder(pipeline.name)
    workshop = Workshop(
        specs=dict(pipeline.products),
        folder=folder,
        sdb_url=settings.sdb_url,
        token=settings.token_text,
    )
    offers = {
        name: Offer(pipeline.name, spec.timeout_s) for name, spec in pipeline.products.items()
    }
    with own_folder(folder), open_process_runner(workshop, _module_of(pipeline)) as runner:
        plan = Plan(
            name=pipeline.name,
            description=_description(pipeline),
            offers=offers,
            runner=runner,
            log_path=workshop.log_path,
        )
        async with open_service(settings, url, plan) as service:
            yield service


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Hold `folder` for this service alone.

    Raises
    ------
    ConfigurationError
        If another service holds it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "in-use").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ConfigurationError(
                f"--data-dir {folder}: another service works there (give each its own)"
            ) from exc
        yield


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a service of processings is made from.

    Attributes
    ----------
    name, description : str
        Of the service.
    offers : mapping
        What may be asked for.
    runner : Runner
        What carries it out.
    log_path : callable or None
        Where logs are, by key.
    """

    name: str
    description: str
    offers: Mapping[str, Offer]
    runner: Runner
    log_path: Callable[[str], Path] | None = None

    @property
    def providers(self) -> frozenset[str]:
        """All who make what is on offer."""
        return frozenset(offer.provider for offer in self.offers.values())


@asynccontextmanager
async def open_service(
    settings: PipelineSettings, url: str, plan: Plan
) -> AsyncIterator["PipelineService"]:
    """Open a service of processings, taking up what one that is gone has left."""
    async with AsyncExitStack() as stack:
        database = settings.database(plan.name)
        engine = stack.enter_context(open_database(database, MIGRATIONS))
        writer = await stack.enter_async_context(Writer(engine))
        bus = await stack.enter_async_context(connect(settings.nats, plan.name))
        service = PipelineService(settings, url + settings.root_path, plan, bus)
        await service.take_up(Store(engine, writer))
        yield service


class PipelineService:
    """A service of processings that is open."""

    def __init__(self, settings: PipelineSettings, url: str, plan: Plan, bus: Bus) -> None:
        self._settings = settings
        self._url = url
        self._plan = plan
        self._bus = bus
        self._reporters = {
            provider: ActivityReporter(bus, lambda provider=provider: self.status(provider))  # type: ignore[misc]  # bound now
            for provider in sorted(plan.providers)
        }
        self.app: FastAPI

    async def take_up(self, store: Store) -> None:
        """Start from what is recorded."""
        plan, settings = self._plan, self._settings
        rules = Rules(
            offers=plan.offers,
            max_concurrent=settings.max_concurrent,
            max_queued=settings.max_queued,
        )
        self._store = store
        self.scheduler = Scheduler(rules, store, plan.runner, self._tell)
        self.app = create_app(
            AppConfig(
                name=plan.name,
                description=plan.description,
                token=settings.token_text,
                checks=lambda: {"nats": self._bus.connected},
                registry=self.scheduler.metrics.registry,
            )
        )
        Routes(self.scheduler, store, settings.root_path, plan.log_path).add_to(self.app)
        await self.scheduler.recover()

    def status(self, provider: str) -> ServiceStatus:
        """What a provider says of itself."""
        queued, running = self.scheduler.counts(provider)
        return ServiceStatus(
            name=provider,
            kind="pipeline",
            url=self._url,
            version=__version__,
            queued=queued,
            running=running,
        )

    async def run(self) -> None:
        """Carry processings out and tell about them, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reporter in self._reporters.values():
                group.create_task(reporter.run())
            group.create_task(self.scheduler.run())
            group.create_task(self._sweep_logs())

    def _tell(self, record: PipelineProcessing) -> None:
        reporter = self._reporters.get(record.provider)
        if reporter is not None:  # a graph that has changed since may know it no more
            reporter.report(record)

    async def _sweep_logs(self) -> None:
        """Remove the logs of processings that ended long ago."""
        log_path = self._plan.log_path
        while log_path is not None:
            keys = await self._store.outdated_logs(time.time() - self._settings.keep_s)
            await asyncio.to_thread(_remove, [log_path(key) for key in keys])
            await self._store.forget_logs(keys)
            await asyncio.sleep(LOGS_SWEPT_EVERY_S)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _description(pipeline: Pipeline) -> str:
    return f"Makes {', '.join(pipeline.products)}."


def _module_of(pipeline: Pipeline) -> str | None:
    """Module to load in advance: that of its functions."""
    for spec in pipeline.products.values():
        module = getattr(spec.function, "__module__", None)
        if module in sys.modules:
            return str(module)
    return None
