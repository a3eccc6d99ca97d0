"""What the sdb holds: what others report is checked against it before it is believed."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import httpx
from pydantic import ValidationError

from batuta.conductor.rules import Arrival
from batuta.conductor.transitions import ProcessingRecord
from batuta.messaging import DataAvailable
from batuta.sdb.lookup import (
    MAX_LOOKUPS,
    ArchivedVersion,
    Lookup,
    LookupRequest,
    LookupResult,
)
from batuta.service.client import (
    ServiceError,
    auth_headers,
    check_response,
    tls_verification,
    translate_errors,
)

SERVICE: Final = "sdb"
TIMEOUT: Final = httpx.Timeout(5.0, connect=2.0)
CLOCK_TOLERANCE_S: Final = 60.0
"""How far the clocks of the sdb and of the conductor may be apart, in seconds."""


class Archive:
    """The product database, asked about many versions at a time; made by `open_archive`."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def find(self, announced: Sequence[DataAvailable]) -> list[ArchivedVersion | None]:
        """Return the version that each announcement is about; None if it is not archived.

        Raises
        ------
        ServiceError
            If the sdb cannot be reached, or refuses.
        """
        return await self._lookup(
            [
                Lookup(product=data.product, obs_id=data.obs_id, version=data.version)
                for data in announced
            ]
        )

    async def newest(self, instances: Sequence[tuple[str, str]]) -> list[int | None]:
        """Return the newest version of each product and observation; None if there is none.

        Raises
        ------
        ServiceError
            If the sdb cannot be reached, or refuses.
        """
        found = await self._lookup(
            [Lookup(product=product, obs_id=obs_id) for product, obs_id in instances]
        )
        return [None if each is None else each.version for each in found]

    async def holds_products_of(self, records: Sequence[ProcessingRecord]) -> list[bool]:
        """Return whether the product of each processing, which reports success, is archived.

        It is if that processing has imported it. A pipeline that does not pass the id of the
        processing on has imported the newest version, after it was requested.

        Raises
        ------
        ServiceError
            If the sdb cannot be reached, or refuses.
        """
        asked = [Lookup(product=each.product, processing_id=each.id) for each in records]
        asked += [Lookup(product=each.product, obs_id=each.obs_id) for each in records]
        found = await self._lookup(asked)
        by_processing, newest = found[: len(records)], found[len(records) :]
        return [
            imported is not None or _is_made_by(latest, record)
            for record, imported, latest in zip(records, by_processing, newest, strict=True)
        ]

    async def _lookup(self, items: Sequence[Lookup]) -> list[ArchivedVersion | None]:
        found: list[ArchivedVersion | None] = []
        for start in range(0, len(items), MAX_LOOKUPS):
            found += await self._lookup_some(items[start : start + MAX_LOOKUPS])
        return found

    async def _lookup_some(self, items: Sequence[Lookup]) -> tuple[ArchivedVersion | None, ...]:
        body = LookupRequest(items=tuple(items)).model_dump_json(exclude_none=True)
        with translate_errors(SERVICE, self._url):
            response = await self._client.post(
                f"{self._url}/products/lookup",
                content=body,
                headers={"Content-Type": "application/json"},
            )
        check_response(SERVICE, response)
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
        return found


def _is_made_by(newest: ArchivedVersion | None, record: ProcessingRecord) -> bool:
    """Return whether a version that names no processing is the product of `record`."""
    if newest is None or newest.processing_id is not None or record.requested is None:
        return False
    return newest.created.timestamp() >= record.requested - CLOCK_TOLERANCE_S


def arrival_of(version: ArchivedVersion) -> Arrival:
    """Return the arrival of an archived version."""
    return Arrival(version.product, version.obs_id, version.version, archived=True)


@asynccontextmanager
async def open_archive(url: str, token: str | None) -> AsyncIterator[Archive]:
    """Open the connection to the sdb at `url`."""
    async with httpx.AsyncClient(
        timeout=TIMEOUT,
        headers=auth_headers(token),
        trust_env=False,
        verify=tls_verification(url),
    ) as client:
        yield Archive(client, url.rstrip("/"))
