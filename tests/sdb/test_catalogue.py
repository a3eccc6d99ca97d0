"""Versions, whatever the imports: one after another, and one for each processing."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st

from batuta.sdb.catalogue import Catalogue, ImportResult, NewProduct
from batuta.sdb.tables import METADATA, MIGRATIONS, OUTBOX
from batuta.service.database import open_database

Import = tuple[str, str, str | None]

imports = st.lists(
    st.tuples(
        st.sampled_from("AB"),
        st.sampled_from(["o1", "o2"]),
        st.one_of(st.none(), st.sampled_from(["p1", "p2", "p3"])),
    ),
    max_size=20,
)


def new(product: str, obs_id: str, processing_id: str | None) -> NewProduct:
    return NewProduct(
        product=product,
        obs_id=obs_id,
        # A processing is of one observation.
        processing_id=processing_id and f"{processing_id}-{obs_id}",
        attempt=None,
        sha256="0" * 64,
        size=0,
        media_type="text/plain",
        filename=None,
        metadata={},
        provider=None,
        inputs=(),
    )


def record(engine: sa.Engine, catalogue: Catalogue, product: NewProduct) -> ImportResult:
    with engine.begin() as connection:
        outcome = catalogue.record_all(connection, [product])[0]
    assert isinstance(outcome, ImportResult)
    return outcome


@settings(max_examples=30, deadline=None)
@given(imports)
def test_versions_have_no_gaps_and_a_processing_has_one(asked: list[Import]) -> None:
    with (
        TemporaryDirectory() as folder,
        open_database(f"sqlite:///{folder}/sdb.db", MIGRATIONS) as engine,
    ):
        catalogue = Catalogue(engine, "http://sdb")
        recorded = [record(engine, catalogue, new(*one)) for one in asked]
        with engine.connect() as connection:
            outbox = connection.execute(sa.select(OUTBOX).order_by(OUTBOX.c.id)).all()
    made = [r.stored for r in recorded if r.is_new]
    for (product, obs_id), count in Counter((p.product, p.obs_id) for p in made).items():
        versions = [p.version for p in made if (p.product, p.obs_id) == (product, obs_id)]
        assert versions == list(range(1, count + 1))
    distinct = {(p, o, i) for p, o, i in asked if i is not None}
    assert len(made) == len(distinct) + sum(i is None for _, _, i in asked)
    by_processing: dict[tuple[str, str], set[int]] = {}
    for stored in (r.stored for r in recorded if r.stored.processing_id):
        key = (stored.product, stored.processing_id or "")
        by_processing.setdefault(key, set()).add(stored.version)
    assert {len(versions) for versions in by_processing.values()} <= {1}
    assert [(e.event["product"], e.event["version"]) for e in outbox] == [
        (p.product, p.version) for p in made
    ]


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    with open_database(database_url, MIGRATIONS) as opened:
        yield opened


def test_the_migrations_make_the_tables_that_the_code_uses(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_name": lambda name, kind, _: kind != "table" or name in METADATA.tables},
        )
        assert compare_metadata(context, METADATA) == []


def test_a_database_opened_again_has_what_it_had(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'sdb.db'}"
    with open_database(url, MIGRATIONS) as first:
        stored = record(first, Catalogue(first, "http://sdb"), new("A", "o1", None)).stored
    with open_database(url, MIGRATIONS) as second:
        assert Catalogue(second, "http://sdb").find("A", "o1") == stored
