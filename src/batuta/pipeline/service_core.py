"""A service that carries processings out, whatever runs them: REST, activity, records."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from batuta import __version__
from batuta.messaging import Bus, ServiceStatus, connect
from batuta.pipeline.messages import PipelineProcessing
from batuta.pipeline.retention import Shelf
from batuta.pipeline.routes import Routes
from batuta.pipeline.runner import Runner
from batuta.pipeline.scheduler import Offer, Rules, Scheduler
from batuta.pipeline.schema import MIGRATIONS
from batuta.pipeline.settings import WEEK_S, ProcessingsSettings
from batuta.pipeline.store import Store
from batuta.service.activity import ActivityReporter
from batuta.service.app import AppConfig, create_app
from batuta.service.committer import Committer
from batuta.service.database import open_database
from batuta.service.folders import own_folder

LOG: Final = logging.getLogger(__name__)

SWEPT_EVERY_S: Final = 3600.0


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
    shelf : Shelf or None
        Where logs and profiles are; None where none are kept.
    keep_s : float
        How long the log and the profile of an ended processing are kept, in seconds.
    """

    name: str
    description: str
    offers: Mapping[str, Offer]
    runner: Runner
    shelf: Shelf | None = None
    keep_s: float = WEEK_S

    @property
    def providers(self) -> frozenset[str]:
        """All who make what is on offer."""
        return frozenset(offer.provider for offer in self.offers.values())


def own_data_dir(folder: Path) -> AbstractContextManager[None]:
    """Hold the service's `data_dir`: its database and its work folders are one service's."""
    refusal = f"--data-dir {folder}: another service works there (give each its own)"
    return own_folder(folder, refusal)


@asynccontextmanager
async def open_service(
    settings: ProcessingsSettings, url: str, plan: Plan
) -> AsyncIterator["ProcessingsService"]:
    """Open a service of processings, taking up what one that is gone has left."""
    async with AsyncExitStack() as stack:
        database = settings.database(plan.name)
        engine = stack.enter_context(open_database(database, MIGRATIONS))
        committer = await stack.enter_async_context(Committer(engine))
        bus = await stack.enter_async_context(connect(settings.nats, plan.name))
        service = ProcessingsService(
            settings, url, plan, bus, Store(engine, committer, plan.providers)
        )
        await service.scheduler.recover()
        yield service


class ProcessingsService:
    """A service of processings that is open.

    Parameters
    ----------
    settings : ProcessingsSettings
        What it was told.
    url : str
        The address that it listens on.
    plan : Plan
        What it is made from.
    bus, store
        What it works with; whoever made them closes them.
    """

    def __init__(
        self, settings: ProcessingsSettings, url: str, plan: Plan, bus: Bus, store: Store
    ) -> None:
        self._url = url + settings.root_path
        self._plan = plan
        self._bus = bus
        self._store = store
        self._reporters = {
            provider: ActivityReporter(bus, partial(self.status, provider))
            for provider in sorted(plan.providers)
        }
        rules = Rules(
            offers=plan.offers,
            max_concurrent=settings.max_concurrent,
            max_queued=settings.max_queued,
        )
        self.scheduler = Scheduler(rules, store, plan.runner, self._tell, plan.shelf)
        self.app = self._create_app(settings)
        self._routes = Routes(self.scheduler, store, settings.root_path, plan.shelf)
        self._routes.add_to(self.app)

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
            group.create_task(self._sweep())

    def _create_app(self, settings: ProcessingsSettings) -> FastAPI:
        return create_app(
            AppConfig(
                name=self._plan.name,
                description=self._plan.description,
                token=settings.token_text,
                checks=lambda: {"nats": self._bus.connected},
                registry=self.scheduler.metrics.registry,
                root_path=settings.root_path,
            )
        )

    def _tell(self, record: PipelineProcessing) -> None:
        reporter = self._reporters.get(record.provider)
        if reporter is not None:  # a graph that has changed since may know it no more
            reporter.report(self._routes.shown(record))

    async def _sweep(self) -> None:
        """Remove the logs and profiles of processings that ended long ago."""
        shelf = self._plan.shelf
        while shelf is not None:
            keys = await self._store.outdated(time.time() - self._plan.keep_s)
            await self._store.forget(await asyncio.to_thread(_removed, shelf, keys))
            await asyncio.sleep(SWEPT_EVERY_S)


def _removed(shelf: Shelf, keys: Iterable[str]) -> list[str]:
    """Remove what is kept of `keys`; return those of which nothing is left."""
    removed = []
    for key in keys:
        try:
            shelf.remove(key)
        except OSError as exc:  # one that is open on a network file system, for example
            LOG.warning("what is kept of %s cannot be removed yet: %s", key, exc)
        else:
            removed.append(key)
    return removed
