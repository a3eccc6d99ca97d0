"""Lookup of many versions at once: what others claim of the sdb is checked by it."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Final, Self

import sqlalchemy as sa
from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from starlette.concurrency import run_in_threadpool

from batuta.messaging.events import Name
from batuta.messaging.processings import Instant
from batuta.sdb.request_body import read_model
from batuta.sdb.tables import PRODUCTS, newer_versions
from batuta.service.database import reading
from batuta.service.direct_routes import DirectRoute
from batuta.service.routing import ServiceRouter
from batuta.stages import Stage

MAX_LOOKUPS: Final = 1000
"""Versions that one request may ask for."""
MAX_BODY_BYTES: Final = 2**21

NEWEST_KEY: Final = ("product", "obs_id")

ProcessingId = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")
]


class Lookup(BaseModel):
    """What to look up: a version, the newest one, or what a processing imported.

    Give `processing_id`, or `obs_id` with or without `version`; always `product`. With
    `withdrawn`, a version that was withdrawn is found too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: Name
    obs_id: Name | None = None
    version: int | None = Field(None, ge=1, le=2**31 - 1)
    processing_id: ProcessingId | None = None
    withdrawn: bool = False

    @model_validator(mode="after")
    def _require_one_key(self) -> Self:
        if (self.obs_id is None) == (self.processing_id is None):
            raise ValueError("give either obs_id or processing_id")
        if self.version is not None and self.obs_id is None:
            raise ValueError("version needs obs_id")
        return self

    @property
    def key(self) -> tuple[str, ...]:
        """The columns by which it is found."""
        if self.processing_id is not None:
            return ("processing_id", "product")
        return NEWEST_KEY if self.version is None else ("product", "obs_id", "version")

    def is_answered_by(self, version: "ArchivedVersion") -> bool:
        """Return whether `version` is one that was asked for."""
        return all(getattr(self, name) == getattr(version, name) for name in self.key)


class LookupRequest(BaseModel):
    """The body of a lookup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: tuple[Lookup, ...] = Field(max_length=MAX_LOOKUPS)


class ArchivedVersion(BaseModel):
    """A version that the sdb holds, in brief; `withdrawn` is when it was withdrawn, if it was.

    `attempt` is that of the processing which imported it, where the import said so.
    """

    model_config = ConfigDict(frozen=True)

    product: str
    obs_id: str
    version: int = Field(ge=1, le=2**31 - 1)
    sha256: str
    created: Instant
    provider: str | None = None
    processing_id: str | None = None
    attempt: int | None = None
    withdrawn: Instant | None = None
    withdrawn_reason: str | None = None
    stage: Stage | None = None


_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["items"],
                    "properties": {
                        "items": {
                            "type": "array",
                            "maxItems": MAX_LOOKUPS,
                            "items": Lookup.model_json_schema(),
                        }
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}


class LookupResult(BaseModel):
    """What was found, in the order of the request; None where the sdb has no such version."""

    model_config = ConfigDict(frozen=True)

    items: tuple[ArchivedVersion | None, ...]


def lookup_router(engine: sa.Engine) -> ServiceRouter:
    """Route for lookups."""
    # Asked by conductors for each product that is announced.
    router = ServiceRouter(tags=["products"], route_class=DirectRoute)

    @router.post("/products/lookup", response_model=LookupResult, openapi_extra=_BODY)
    async def lookup(request: Request) -> Response:
        """Return which of many versions are archived, in one request."""
        asked = await read_model(request, LookupRequest, MAX_BODY_BYTES)
        found = await run_in_threadpool(find_versions, engine, asked.items)
        answer = LookupResult(items=tuple(found)).model_dump_json()
        return Response(answer, media_type="application/json")

    return router


def find_versions(engine: sa.Engine, items: Sequence[Lookup]) -> list[ArchivedVersion | None]:
    """Return the version that each item asks for, or None."""
    by_key: defaultdict[tuple[tuple[str, ...], bool], list[Lookup]] = defaultdict(list)
    for item in items:
        by_key[item.key, item.withdrawn].append(item)
    found: dict[Lookup, ArchivedVersion] = {}
    with reading(engine) as connection:
        for (key, withdrawn), alike in by_key.items():
            found |= _find(connection, key, alike, withdrawn=withdrawn)
    return [found.get(item) for item in items]


_SHOWN: Final = tuple(PRODUCTS.c[name] for name in ArchivedVersion.model_fields)


@cache
def _query(key: tuple[str, ...], *, withdrawn: bool) -> sa.Select[Any]:
    """Return the statement that finds versions by `key`; to build it takes longer than to run."""
    query = sa.select(*_SHOWN)
    for name in key:
        # By column rather than by row: databases look up rows of values without their indexes.
        # What this finds besides, of pairs that nobody asked for, is dropped below.
        query = query.where(PRODUCTS.c[name].in_(sa.bindparam(name, expanding=True)))
    if not withdrawn:
        query = query.where(PRODUCTS.c.withdrawn.is_(None))
    if key == NEWEST_KEY:
        query = query.where(~newer_versions(withdrawn=withdrawn).exists())
    # A processing may have imported again what was withdrawn: the last one is the newest.
    return query.order_by(PRODUCTS.c.version)


def _find(
    connection: sa.Connection, key: tuple[str, ...], items: Sequence[Lookup], *, withdrawn: bool
) -> dict[Lookup, ArchivedVersion]:
    """Find the versions of items that have the same key."""
    wanted = {tuple(getattr(item, name) for name in key): item for item in items}
    columns = zip(key, zip(*wanted, strict=True), strict=True)
    values = {name: list(set(of_column)) for name, of_column in columns}
    found = {}
    for row in connection.execute(_query(key, withdrawn=withdrawn), values):
        item = wanted.get(tuple(row._mapping[name] for name in key))
        if item is not None:
            found[item] = ArchivedVersion(**row._mapping)
    return found
