"""A service that executes processings with any runner: REST, activity, database."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from batuta import __version__
from batuta.errors import one_line
from batuta.messaging import Bus, ServiceStatus, connect
from batuta.pipeline.messages import PipelineProcessing
from batuta.pipeline.pruning import RETRY_S, RecordPruner
from batuta.pipeline.retention import RetentionFolder
from batuta.pipeline.routes import ProcessingRoutes
from batuta.pipeline.runner import Runner
from batuta.pipeline.scheduler import Offer, ProcessingScheduler, SchedulerConfig
from batuta.pipeline.schema import MIGRATIONS
from batuta.pipeline.settings import WEEK_S, ProcessingSettings
from batuta.pipeline.store import ProcessingStore
from batuta.pipeline.tile_board import TileBoards
from batuta.service.access_tokens import AccessTokens
from batuta.service.activity import ActivityReporter
from batuta.service.app import AppConfig, create_app
from batuta.service.committer import Committer
from batuta.service.database import UNAVAILABLE, DatabaseError, open_database, write_problem
from batuta.service.folder_lock import lock_folder
from batuta.service.health import HealthMonitor
from batuta.service.retention_routes import add_retention_routes
from batuta.service.route_scopes import PIPELINE

LOG: Final = logging.getLogger(__name__)

SWEEP_INTERVAL_S: Final = 3600.0


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """The definition of a processing service.

    Attributes
    ----------
    name, description : str
        Of the service.
    offers : mapping
        The products that can be requested, by name.
    runner : Runner
        What executes them.
    retention : RetentionFolder or None
        Where logs and profiles are; None where none are retained.
    keep_s : float
        How long logs and profiles are retained after the end, in seconds.
    tiles : TileBoards or None
        What is known of the tiles of processings; None where they have none.
    others : str
        What to do about a product that is not on offer, after a refusal of it; "" for nothing.
    """

    name: str
    description: str
    offers: Mapping[str, Offer]
    runner: Runner
    retention: RetentionFolder | None = None
    keep_s: float = WEEK_S
    tiles: TileBoards | None = None
    others: str = ""

    @property
    def providers(self) -> frozenset[str]:
        """The providers of all products on offer."""
        return frozenset(offer.provider for offer in self.offers.values())


def lock_data_dir(folder: Path) -> AbstractContextManager[None]:
    """Lock the service's `data_dir`: database and work folders belong to one service."""
    refusal = f"--data-dir {folder}: in use by another service (each needs its own data_dir)"
    return lock_folder(folder, refusal)


@asynccontextmanager
async def open_service(
    settings: ProcessingSettings, url: str, spec: ServiceSpec
) -> AsyncIterator["ProcessingService"]:
    """Open a processing service, resuming what a previous one has left."""
    async with AsyncExitStack() as stack:
        database = settings.database(spec.name)
        engine = stack.enter_context(open_database(database, MIGRATIONS))
        committer = await stack.enter_async_context(Committer(engine))
        bus = await stack.enter_async_context(connect(settings.nats, spec.name))
        health = HealthMonitor({"database": partial(write_problem, engine, MIGRATIONS)})
        store = ProcessingStore(engine, committer, spec.providers)
        service = ProcessingService(settings, url, spec, bus, store, health)
        await service.scheduler.recover()
        yield service


class ProcessingService:
    """A processing service that is open.

    Parameters
    ----------
    settings : ProcessingSettings
        Its settings.
    url : str
        The address that it listens on.
    spec : ServiceSpec
        Its definition.
    bus, store
        Connection and database; the caller closes them.
    health : HealthMonitor
        Checks what it depends on, but NATS.

    Attributes
    ----------
    background : list of callable
        What else it does while it runs.
    """

    def __init__(
        self,
        settings: ProcessingSettings,
        url: str,
        spec: ServiceSpec,
        bus: Bus,
        store: ProcessingStore,
        health: HealthMonitor,
    ) -> None:
        self._url = url + settings.root_path
        self._spec = spec
        self._bus = bus
        self._store = store
        self._health = health
        self._tokens = AccessTokens(settings.token_text, settings.tokens)
        self._notice: str | None = None
        self.background: list[Callable[[], Coroutine[None, None, None]]] = []
        self._reporters = {
            provider: ActivityReporter(bus, partial(self.status, provider))
            for provider in sorted(spec.providers)
        }
        config = SchedulerConfig(
            offers=spec.offers,
            others=spec.others,
            max_concurrent=settings.max_concurrent,
            max_queued=settings.max_queued,
        )
        self.scheduler = ProcessingScheduler(
            config, store, spec.runner, self._report, spec.retention
        )
        self.app = self._create_app(settings)
        records = store.records(settings.retention, with_files=spec.retention is not None)
        self._pruner = RecordPruner(
            spec.name, records, store.commit, self.scheduler.metrics.record_dropped
        )
        add_retention_routes(self.app, self._pruner)
        self._routes = ProcessingRoutes(
            self.scheduler, store, settings.root_path, spec.retention, spec.tiles
        )
        self._routes.add_to(self.app)

    def status(self, provider: str) -> ServiceStatus:
        """Return the current status of a provider."""
        queued, running = self.scheduler.counts(provider)
        return ServiceStatus(
            name=provider,
            kind="pipeline",
            url=self._url,
            version=__version__,
            notice=self._notice,
            queued=queued,
            running=running,
        )

    def publish_notice(self, notice: str) -> None:
        """Publish a line for people with the status of each provider, from now on."""
        self._notice = notice
        for reporter in self._reporters.values():
            reporter.report_status()

    async def run(self) -> None:
        """Run processings and report their activity, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for work in self.background:
                group.create_task(work())
            for reporter in self._reporters.values():
                group.create_task(reporter.run())
            group.create_task(self.scheduler.run())
            group.create_task(self._health.run())
            group.create_task(self._tokens.watch())
            group.create_task(self._remove_expired_files())
            group.create_task(self._pruner.run())

    def _create_app(self, settings: ProcessingSettings) -> FastAPI:
        return create_app(
            AppConfig(
                name=self._spec.name,
                description=self._spec.description,
                tokens=self._tokens,
                routes=PIPELINE,
                checks=lambda: {
                    "nats": self._bus.health,
                    "retention": self._pruner.problem or True,
                    **self._health.states,
                },
                registry=self.scheduler.metrics.registry,
                root_path=settings.root_path,
            )
        )

    def _report(self, record: PipelineProcessing) -> None:
        reporter = self._reporters.get(record.provider)
        if reporter is not None:  # recorded under an earlier graph that had this provider
            reporter.report(self._routes.with_links(record))

    async def _remove_expired_files(self) -> None:
        """Remove the logs and profiles of processings that ended long ago."""
        retention = self._spec.retention
        while retention is not None:
            wait_s = SWEEP_INTERVAL_S
            try:
                keys = await self._store.expired_keys(time.time() - self._spec.keep_s)
                removed = await asyncio.to_thread(_remove_expired, retention, keys)
                await self._store.record_removal(removed)
            except (DatabaseError, *UNAVAILABLE) as exc:
                # Not the end of the service: the processings that run know how to wait for it.
                LOG.warning("logs and profiles: %s; tried again in %g s", one_line(exc), RETRY_S)
                wait_s = RETRY_S
            await asyncio.sleep(wait_s)


def _remove_expired(retention: RetentionFolder, keys: Iterable[str]) -> list[str]:
    """Remove the files of `keys`; return the keys of which nothing is left."""
    removed = []
    for key in keys:
        try:
            retention.remove(key)
        except OSError as exc:  # such as a file open on a network file system
            LOG.warning("log and profiles of %s cannot be removed yet: %s", key, exc)
        else:
            removed.append(key)
    return removed
