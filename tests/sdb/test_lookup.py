"""Lookup of many versions in one request, on every kind of database."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import httpx
import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from batuta.sdb.lookup import MAX_BODY_BYTES, MAX_LOOKUPS, Lookup, find_versions, lookup_router
from batuta.sdb.tables import MIGRATIONS, PRODUCTS
from batuta.service.app import AppConfig, create_app
from batuta.service.database import open_database
from batuta.service.routing import add_routers

HELD = (
    ("A", "o1", 1, None),
    ("A", "o1", 2, "p1"),
    ("B", "o1", 1, "p1"),
    ("A", "o2", 1, "p2"),
)


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    with open_database(database_url, MIGRATIONS) as opened:
        with opened.begin() as connection:
            connection.execute(
                sa.insert(PRODUCTS),
                [
                    {
                        "product": product,
                        "obs_id": obs_id,
                        "version": version,
                        "processing_id": processing_id,
                        "sha256": "0" * 64,
                        "size": 0,
                        "media_type": "text/plain",
                        "metadata": {},
                        "inputs": [],
                        "created": datetime(2026, 1, 1, tzinfo=UTC),
                    }
                    for product, obs_id, version, processing_id in HELD
                ],
            )
        yield opened


def test_every_kind_of_key_finds_its_version_and_nothing_else(engine: sa.Engine) -> None:
    expected = {
        Lookup(product="A", obs_id="o1"): 2,
        Lookup(product="A", obs_id="o1", version=1): 1,
        Lookup(product="A", obs_id="o1", version=3): None,
        Lookup(product="B", obs_id="o2"): None,
        Lookup(product="A", obs_id="o2", version=1): 1,
        Lookup(product="A", processing_id="p1"): 2,
        Lookup(product="B", processing_id="p1"): 1,
        Lookup(product="B", processing_id="p2"): None,
    }
    found = find_versions(engine, list(expected))
    assert [each and each.version for each in found] == list(expected.values())
    for item, version in zip(expected, found, strict=True):
        assert version is None or version.product == item.product
        assert version is None or version.obs_id == (item.obs_id or version.obs_id)


@pytest.fixture
async def client(engine: sa.Engine) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(AppConfig(name="sdb", description="Looks up."))
    add_routers(app, lookup_router(engine))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


async def test_the_answer_is_in_the_order_of_the_request(client: httpx.AsyncClient) -> None:
    items = [
        {"product": "B", "obs_id": "o1"},
        {"product": "Z", "obs_id": "o1"},
        {"product": "B", "obs_id": "o1"},
    ]
    answer = await client.post("/products/lookup", json={"items": items})
    shown = [each and (each["product"], each["version"]) for each in answer.json()["items"]]
    assert shown == [("B", 1), None, ("B", 1)]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ('{"items": [{"product": "B"}]}', 422, "items.0: give either obs_id or processing_id"),
        ('{"item": []}', 422, "items: missing; item: Extra inputs are not permitted"),
        ("[]", 422, "body: Input should be an object"),
        ("x" * 5000, 422, "body: Invalid JSON: expected value at line 1 column 1"),
        (" " * (MAX_BODY_BYTES + 1), 413, f"body: larger than {MAX_BODY_BYTES} bytes"),
    ],
)
async def test_what_is_no_lookup_is_told_in_one_short_line(
    client: httpx.AsyncClient, body: str, status: int, detail: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await client.post("/products/lookup", content=body, headers=headers)
    assert answer.status_code == status
    told = answer.json()["detail"]
    assert told.startswith(detail)
    assert len(told) < 1200
    assert "\n" not in told


async def test_a_lookup_that_says_that_it_is_no_json_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/products/lookup", content='{"items": []}')
    assert answer.status_code == 415
    assert answer.json()["detail"] == "Content-Type: '' (accepted: application/json)"


def test_as_many_versions_as_a_request_may_ask_for_are_found(engine: sa.Engine) -> None:
    items = [Lookup(product="A", obs_id=f"o{number}") for number in range(MAX_LOOKUPS)]
    assert len([each for each in find_versions(engine, items) if each]) == 2


@pytest.mark.parametrize(
    "item",
    [
        {"product": "A"},
        {"product": "A", "obs_id": "o1", "processing_id": "p1"},
        {"product": "A", "processing_id": "p1", "version": 1},
        {"product": "A", "obs_id": "o1", "version": 2**31},
        {"product": "A", "processing_id": "p\0"},
        {"product": "../A", "obs_id": "o1"},
    ],
)
def test_a_key_that_cannot_be_looked_up_is_refused(item: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Lookup.model_validate(item)
