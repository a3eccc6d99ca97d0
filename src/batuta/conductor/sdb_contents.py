"""What the sdb holds, read page by page: for a new database, and to compare."""

import asyncio
import logging
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from batuta.conductor.database.ledger import Ledger
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.settings import ConductorSettings
from batuta.errors import one_line
from batuta.sdb.client import SdbClient
from batuta.sdb.records import StoredProduct
from batuta.service.client import ServiceError
from batuta.stages import rank_of

LOG: Final = logging.getLogger(__name__)

SDB_WAIT_S: Final = 60.0
"""How long a conductor whose database is new waits for the sdb, in seconds."""


async def rebuild(ledger: Ledger, settings: ConductorSettings) -> None:
    """Record what the sdb holds: this database is new, or the old one was lost.

    The wait for the sdb is here, and not in its client, so that Ctrl-C ends it at once.
    """
    deadline = time.monotonic() + SDB_WAIT_S
    while True:
        try:
            # Page by page: what the sdb holds may be more than memory.
            arrivals = map(_stored_arrival, held_by_sdb(settings))
            return await asyncio.to_thread(ledger.rebuild, arrivals)
        except ServiceError as exc:
            if exc.refused or time.monotonic() > deadline:
                raise
            LOG.warning("%s; retried for up to %g s", exc, SDB_WAIT_S)
            await asyncio.sleep(1)


def held_by_sdb(
    settings: ConductorSettings, product: str | None = None, *, newest: bool = False
) -> Iterator[StoredProduct]:
    """Yield what the sdb holds, of one product or of all; only the newest versions if asked so."""
    with SdbClient(settings.sdb_url, token=settings.token_text, retry_for_s=0) as sdb:
        yield from sdb.list(product, latest=newest)


def sdb_problem(settings: ConductorSettings) -> str | None:
    """Ask the sdb for a product that it need not have; return why it cannot be asked."""
    try:
        with SdbClient(settings.sdb_url, token=settings.token_text, retry_for_s=0) as sdb:
            sdb.get("health", "check")
    except ServiceError as exc:
        if exc.status != HTTPStatus.NOT_FOUND:
            return f"{one_line(exc)}; nothing that is made can be confirmed"
    return None


def _stored_arrival(stored: StoredProduct) -> Arrival:
    return Arrival(
        stored.product,
        stored.obs_id,
        stored.version,
        archived=True,
        stage=None if stored.stage is None else rank_of(stored.stage),
        made_by=stored.processing_id,
        sha256=stored.sha256,
    )
