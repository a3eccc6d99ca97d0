"""What the sdb holds: what others report is checked against it before it is believed."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote, urlencode

from pydantic import ValidationError

from batuta.conductor.decisions.events import Archived, Interface
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.rules import Arrival, is_claim_id
from batuta.messaging import DataEvent
from batuta.sdb.lookup import (
    MAX_LOOKUPS,
    ArchivedVersion,
    Lookup,
    LookupRequest,
    LookupResult,
)
from batuta.service.client import ServiceError
from batuta.service.http_pool import Answer, HttpPool, PoolTimeouts, open_pool
from batuta.stages import rank_of

SERVICE: Final = "sdb"
TIMEOUTS: Final = PoolTimeouts(connect_s=2.0, read_s=5.0)
ANSWER_TIMEOUT_S: Final = 15.0
"""How long an answer may take in all, in seconds."""
MAX_REASON: Final = 400
"""Characters that the sdb takes."""
MAX_ANSWER_BYTES: Final = 4 * 2**20
"""More than a thousand versions with the longest names."""
CLOCK_TOLERANCE_S: Final = 60.0
"""How far the clocks of the sdb and of the conductor may drift apart between two answers."""


class Archive:
    """The product database, asked about many versions at a time; made by `open_archive`."""

    def __init__(self, pool: HttpPool, url: str) -> None:
        self._pool = pool
        self._url = url
        self._clock_ahead_s = 0.0

    async def find(self, announced: Sequence[DataEvent]) -> list[ArchivedVersion | None]:
        """Return the version that each announcement is about, withdrawn or not; None if none is.

        Raises
        ------
        ServiceError
            If the sdb cannot be reached, or refuses.
        """
        return await self._lookup(
            [
                # Without a version, the newest that may be used is meant.
                Lookup(
                    product=data.product,
                    obs_id=data.obs_id,
                    version=data.version,
                    withdrawn=data.version is not None,
                )
                for data in announced
            ]
        )

    async def newest(self, instances: Sequence[tuple[str, str]]) -> list[ArchivedVersion | None]:
        """Return the newest version of each product and observation; None if there is none.

        Raises
        ------
        ServiceError
            If the sdb cannot be reached, or refuses.
        """
        return await self._lookup(
            [Lookup(product=product, obs_id=obs_id) for product, obs_id in instances]
        )

    async def withdraw(self, product: str, obs_id: str, version: int, reason: str) -> None:
        """Withdraw a version; one that was withdrawn before stays so.

        Raises
        ------
        ServiceError
            If the sdb cannot be reached, or refuses.
        """
        path = f"products/{quote(product, safe='')}/{quote(obs_id, safe='')}/versions/{version}"
        await self._pool.send(
            SERVICE,
            "DELETE",
            f"{self._url}/{path}?{urlencode({'reason': reason[:MAX_REASON]})}",
            max_bytes=MAX_ANSWER_BYTES,
            max_s=ANSWER_TIMEOUT_S,
        )

    async def imported_by(
        self, processings: Sequence[tuple[str, str]], *, withdrawn: bool = False
    ) -> list[ArchivedVersion | None]:
        """Return what each processing has imported of a product: pairs (product, processing id).

        Raises
        ------
        ServiceError
            If the sdb cannot be reached, or refuses.
        """
        return await self._lookup(
            [
                Lookup(product=product, processing_id=processing_id, withdrawn=withdrawn)
                for product, processing_id in processings
            ]
        )

    async def holds_products_of(self, records: Sequence[ProcessingRecord]) -> list[bool]:
        """Return whether the product of each processing, which reports success, is archived.

        It is if that processing has imported it, withdrawn since or not, unless it was to be made
        again. A pipeline that does not pass the id of the processing on, or counts no attempts and
        passes one of its own, has imported the newest version, after it was requested.

        Raises
        ------
        ServiceError
            If the sdb cannot be reached, or refuses.
        """
        # Of one that is to be made again, what was withdrawn is what it is to replace.
        asked = [
            Lookup(product=each.product, processing_id=each.id, withdrawn=not each.remake)
            for each in records
        ]
        asked += [
            Lookup(product=each.product, obs_id=each.obs_id, withdrawn=not each.remake)
            for each in records
        ]
        found = await self._lookup(asked)
        by_processing, newest = found[: len(records)], found[len(records) :]
        return [
            (imported is not None and imported.obs_id == record.obs_id)
            or self._is_made_by(latest, record)
            for record, imported, latest in zip(records, by_processing, newest, strict=True)
        ]

    async def made_unannounced(self, records: Sequence[ProcessingRecord]) -> list[ArchivedVersion]:
        """Return what the sdb holds of the products of processings that are under way.

        It may be older than they are, of those that count no attempts: they may import under any
        id, so that the newest version is returned.

        Raises
        ------
        ServiceError
            If the sdb cannot be reached, or refuses.
        """
        found = await self._lookup(
            [
                Lookup(product=each.product, processing_id=each.id)
                if each.interface is Interface.ATTEMPTS
                else Lookup(product=each.product, obs_id=each.obs_id)
                for each in records
            ]
        )
        return [each for each in found if each is not None]

    async def _lookup(self, items: Sequence[Lookup]) -> list[ArchivedVersion | None]:
        found: list[ArchivedVersion | None] = []
        for start in range(0, len(items), MAX_LOOKUPS):
            found += await self._lookup_some(items[start : start + MAX_LOOKUPS])
        return found

    def _is_made_by(self, newest: ArchivedVersion | None, record: ProcessingRecord) -> bool:
        """Return whether a version that names no claim is the product of `record`."""
        if newest is None or record.requested is None:
            return False
        if newest.processing_id is not None and (
            record.interface is Interface.ATTEMPTS or is_claim_id(newest.processing_id)
        ):
            return False
        created = newest.created.timestamp() - self._clock_ahead_s
        return created >= record.requested - CLOCK_TOLERANCE_S

    async def _lookup_some(self, items: Sequence[Lookup]) -> tuple[ArchivedVersion | None, ...]:
        body = LookupRequest(items=tuple(items)).model_dump_json(exclude_defaults=True)
        response = await self._pool.send(
            SERVICE,
            "POST",
            f"{self._url}/products/lookup",
            body=body.encode(),
            max_bytes=MAX_ANSWER_BYTES,
            max_s=ANSWER_TIMEOUT_S,
        )
        try:
            found = LookupResult.model_validate_json(response.content).items
        except ValidationError as exc:
            raise ServiceError(
                f"{SERVICE} at {self._url}: the answer is not that of a lookup; is it an sdb?"
            ) from exc
        if len(found) != len(items):
            raise ServiceError(
                f"{SERVICE} at {self._url}: {len(items)} versions asked for, {len(found)} answered"
            )
        for item, version in zip(items, found, strict=True):
            if version is not None and not item.is_answered_by(version):
                raise ServiceError(
                    f"{SERVICE} at {self._url}: asked for {item!r}, it answered {version!r}"
                )
        self._clock_ahead_s = _clock_ahead_s(response, self._clock_ahead_s)
        return found


def _clock_ahead_s(response: Answer, known_s: float) -> float:
    """Return how far the clock of whoever answered is ahead of ours; `known_s` if untold."""
    try:
        return parsedate_to_datetime(response.headers["date"]).timestamp() - time.time()
    except (KeyError, ValueError, OverflowError):
        return known_s


def arrival_of(version: ArchivedVersion) -> Arrival:
    """Return the arrival of an archived version."""
    return Arrival(
        version.product,
        version.obs_id,
        version.version,
        archived=True,
        stage=None if version.stage is None else rank_of(version.stage),
        sha256=version.sha256,
    )


def success_of(version: ArchivedVersion) -> Archived:
    """Return what an archived version tells of the processing that imported it."""
    return Archived(
        processing_id=version.processing_id or "",
        product=version.product,
        obs_id=version.obs_id,
        provider=version.provider,
        version=version.version,
        made_in=version.attempt,
    )


@asynccontextmanager
async def open_archive(url: str, token: str | None) -> AsyncIterator[Archive]:
    """Open the connection to the sdb at `url`."""
    async with open_pool(token, TIMEOUTS) as pool:
        yield Archive(pool, url.rstrip("/"))
