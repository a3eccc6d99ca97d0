"""The sdb service: its parts, opened, wired together and closed."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from batuta import __version__
from batuta.messaging import Bus, ServiceStatus, connect
from batuta.sdb.bulk import BulkImporter
from batuta.sdb.catalogue import Catalogue
from batuta.sdb.contents import Contents
from batuta.sdb.imports import Importer
from batuta.sdb.lookup import lookup_router
from batuta.sdb.metrics import SdbMetrics
from batuta.sdb.outbox import Announcer
from batuta.sdb.quicklook_routes import quicklook_router
from batuta.sdb.quicklooks import Quicklooks
from batuta.sdb.quota import open_quota
from batuta.sdb.recording import ImportRecorder
from batuta.sdb.references import ReferenceImporter, open_folders
from batuta.sdb.routes import data_router, import_router, record_router, withdrawal_router
from batuta.sdb.settings import SdbSettings
from batuta.sdb.store import DamagedObjectError, ProductStore, StoreError, open_store
from batuta.sdb.tables import MIGRATIONS
from batuta.sdb.uploads.records import UploadRecords
from batuta.sdb.uploads.routes import upload_router
from batuta.sdb.uploads.uploads import Uploads
from batuta.service.access_tokens import AccessTokens
from batuta.service.activity import ActivityReporter
from batuta.service.app import AppConfig, create_app
from batuta.service.committer import Committer
from batuta.service.database import open_database
from batuta.service.health import HealthMonitor
from batuta.service.problems import path_of, problem_response
from batuta.service.route_scopes import SDB
from batuta.service.routing import add_routers

LOG: Final = logging.getLogger(__name__)

NAME: Final = "sdb"
RETRY_AFTER_S: Final = 2


class Sdb:
    """The running product database.

    Parameters
    ----------
    settings : SdbSettings
        Its configuration.
    url : str
        The address that it listens on.
    engine, committer, bus, store
        Open; the caller closes them.
    """

    def __init__(
        self,
        settings: SdbSettings,
        url: str,
        *,
        engine: sa.Engine,
        committer: Committer,
        bus: Bus,
        store: ProductStore,
    ) -> None:
        self._url = settings.public_url or url
        self._bus = bus
        self._metrics = SdbMetrics()
        quota = open_quota(engine, settings)
        self._catalogue = Catalogue(engine, self._url, quota.limits)
        self._announcer = Announcer(engine, committer, bus)
        self._reporter = ActivityReporter(bus, self.status)
        self._metrics.report_outbox(self._announcer.length, self._announcer.oldest_age_s)
        self._metrics.report_usage(quota)
        self._health = HealthMonitor(
            {
                "database": self._catalogue.problem,
                "store": store.problem,
                "announcements": self._announcer.problem,
                **({"quota": quota.problem} if quota.is_limited else {}),
            }
        )
        contents = Contents(engine, store, settings.small_file_bytes)
        self._quicklooks = Quicklooks(
            engine, committer, contents, self._metrics, settings.quicklook_processes
        )
        recorder = ImportRecorder(
            store=store,
            catalogue=self._catalogue,
            contents=contents,
            committer=committer,
            metrics=self._metrics,
            quota=quota,
            announce=self._announcer.announce,
        )
        limits = {
            "max_upload_bytes": settings.max_upload_bytes,
            "small_file_bytes": settings.small_file_bytes,
        }
        importer = Importer(recorder=recorder, **limits)
        references = ReferenceImporter(recorder, open_folders(settings), **limits)
        bulk = BulkImporter(recorder, settings.small_file_bytes)
        self._uploads = Uploads(UploadRecords(engine), recorder, settings)
        self._metrics.report_uploads(self._uploads.count, self._uploads.received_bytes)
        self._tokens = AccessTokens(settings.token_text, settings.tokens)
        self.app = self._create_app()
        # Asked for most often.
        add_routers(self.app, import_router(importer, bulk, references), first=True)
        add_routers(self.app, upload_router(self._uploads, self._url))
        add_routers(self.app, lookup_router(engine))
        add_routers(self.app, record_router(self._catalogue))
        add_routers(self.app, withdrawal_router(self._catalogue, committer, self._announcer.wake))
        add_routers(self.app, data_router(self._catalogue, contents, self._metrics))
        add_routers(self.app, quicklook_router(self._catalogue, self._quicklooks))

    async def run(self) -> None:
        """Publish announcements and the service's status until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._announcer.run())
            group.create_task(self._reporter.run())
            group.create_task(self._health.run())
            group.create_task(self._tokens.watch())
            group.create_task(self._uploads.run())

    async def close(self) -> None:
        """End the drawings under way; the database is still open."""
        await self._quicklooks.close()

    def status(self) -> ServiceStatus:
        """The status of this service; `running` counts the imports in progress."""
        running = self._metrics.registry.get_sample_value("batuta_sdb_receiving")
        return ServiceStatus(
            name=NAME, kind="sdb", url=self._url, version=__version__, running=int(running or 0)
        )

    def _create_app(self) -> FastAPI:
        app = create_app(
            AppConfig(
                name=NAME,
                description="Scientific products: imported, versioned, announced, exported.",
                tokens=self._tokens,
                routes=SDB,
                checks=self._checks,
                registry=self._metrics.registry,
            )
        )
        app.add_exception_handler(StoreError, _on_storage_error)
        return app

    def _checks(self) -> dict[str, bool | str]:
        return {"nats": self._bus.health, **self._health.states}


@asynccontextmanager
async def open_sdb(settings: SdbSettings, url: str) -> AsyncIterator[Sdb]:
    """Open the sdb; `url` is the address that it will listen on.

    Raises
    ------
    ConfigurationError
        If the database or store URL is not accepted.
    DatabaseError, MessagingError
        If the database or NATS cannot be reached.
    """
    store = open_store(settings)
    with open_database(settings.database_url, MIGRATIONS) as engine:
        async with connect(settings.nats, NAME) as bus, Committer(engine) as committer:
            _warn_of_another_database(Catalogue(engine, url), store, settings)
            sdb = Sdb(settings, url, engine=engine, committer=committer, bus=bus, store=store)
            try:
                yield sdb
            finally:
                await sdb.close()


async def _on_storage_error(request: Request, exc: Exception) -> JSONResponse:
    LOG.error("%s %s: store: %s", request.method, path_of(request), exc)
    return problem_response(*_store_problem(exc))


def _store_problem(exc: Exception) -> tuple[HTTPStatus, str, Mapping[str, str]]:
    detail = f"store: {exc}"
    if isinstance(exc, DamagedObjectError):
        return HTTPStatus.INTERNAL_SERVER_ERROR, detail, {}
    if isinstance(exc, StoreError) and exc.full:
        return HTTPStatus.INSUFFICIENT_STORAGE, detail, {}
    return HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": str(RETRY_AFTER_S)}


def _warn_of_another_database(
    catalogue: Catalogue, store: ProductStore, settings: SdbSettings
) -> None:
    """Say that the database is empty and the store is not: one of them may be the wrong one.

    It is no error: a store may be shared, and a database may be lost for good.
    """
    try:
        strange = catalogue.is_empty() and store.holds_objects()
    except StoreError as exc:
        LOG.warning("store %s: %s", settings.store_url, exc)
        return
    if strange:
        LOG.warning(
            "the database has no product, but the store %s has files: is it the right database, "
            "or is a backup of it to be restored? (versions start from 1)",
            settings.store_url,
        )
