"""What is asked of the sdb's database costs the same however many products it has."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product as combinations

import pytest
import sqlalchemy as sa

from batuta.sdb.catalogue import Catalogue
from batuta.sdb.lists import ProductQuery
from batuta.sdb.lookup import Lookup, find_versions
from batuta.sdb.new_product import NewProduct
from batuta.sdb.tables import MIGRATIONS, PRODUCTS
from batuta.service.database import open_database
from tests.support.query_plans import costly_queries, recorded

BIG = [PRODUCTS.name]
NEW = NewProduct(
    product="A",
    obs_id="o1",
    sha256="0" * 64,
    size=0,
    media_type="text/plain",
    filename=None,
    metadata={},
    provider="maker",
    processing_id="p1",
    attempt=1,
    inputs=(),
)


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    with open_database(database_url, MIGRATIONS) as opened:
        yield opened


def test_no_list_reads_or_sorts_a_whole_table(engine: sa.Engine) -> None:
    catalogue = Catalogue(engine, "http://sdb")
    with recorded(engine) as statements:
        for query, latest, withdrawn in combinations(
            (ProductQuery(), ProductQuery(product="A"), ProductQuery(obs_id="o1")),
            (False, True),
            (False, True),
        ):
            catalogue.page(replace(query, latest=latest, withdrawn=withdrawn))
        catalogue.is_empty()
    assert len(statements) >= 12
    assert costly_queries(engine, statements, BIG) == {}


def test_recording_reads_no_whole_table(engine: sa.Engine) -> None:
    catalogue = Catalogue(engine, "http://sdb")
    with recorded(engine) as statements, engine.begin() as connection:
        others = (replace(NEW, obs_id="o2", processing_id=each) for each in ("p2", None))
        catalogue.record_all(connection, [NEW, *others])
    costly = costly_queries(engine, statements, BIG)
    assert not [step for steps in costly.values() for step in steps if "SCAN" in step.upper()]


def test_no_lookup_reads_or_sorts_a_whole_table(engine: sa.Engine) -> None:
    catalogue = Catalogue(engine, "http://sdb")
    with recorded(engine) as statements:
        for withdrawn in (False, True):
            find_versions(
                engine,
                [
                    Lookup(product="A", obs_id="o1", withdrawn=withdrawn),
                    Lookup(product="A", obs_id="o1", version=1, withdrawn=withdrawn),
                    Lookup(product="A", processing_id="p1", withdrawn=withdrawn),
                ],
            )
            catalogue.page(ProductQuery(product="A", obs_id="o1", withdrawn=withdrawn))
        catalogue.find_repeated(NEW)
        catalogue.find_repeated(replace(NEW, processing_id=None))
    costly = costly_queries(engine, statements, BIG)
    # What was found, a version or few for each thing asked for, may be sorted.
    assert not [step for steps in costly.values() for step in steps if "SCAN" in step.upper()]


def test_a_page_continues_where_the_last_one_ended(engine: sa.Engine) -> None:
    rows = [
        {
            "product": "AB"[number % 2],
            "obs_id": f"o{number // 4}",
            "version": 1 + number // 2 % 2,
            "sha256": "0" * 64,
            "size": 0,
            "media_type": "text/plain",
            "metadata": {},
            "inputs": [],
            "created": datetime(2026, 1, 1, tzinfo=UTC),
        }
        for number in range(40)
    ]
    with engine.begin() as connection:
        for row in rows:
            connection.execute(sa.insert(PRODUCTS).values(row))
    catalogue = Catalogue(engine, "http://sdb")
    found: list[tuple[str, int]] = []
    cursor: str | None = "0"
    while cursor is not None:
        query = ProductQuery(product="A", latest=True, limit=3, after=int(cursor))
        page = catalogue.page(query)
        found += [(each.obs_id, each.version) for each in page.items]
        cursor = page.next
    assert found == [(f"o{number}", 2) for number in range(10)]
