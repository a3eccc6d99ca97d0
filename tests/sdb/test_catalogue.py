"""Versions, whatever the imports: one after another, one for each processing, none for a repeat."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st

from batuta.sdb.catalogue import Catalogue, ImportResult
from batuta.sdb.new_product import NewProduct
from batuta.sdb.records import InputRef, Lineage
from batuta.sdb.tables import METADATA, MIGRATIONS, OUTBOX
from batuta.service.database import open_database
from batuta.service.problems import ProblemError
from tests.support.interleaving import require_one_moment

Import = tuple[str, str, str | None, str]

imports = st.lists(
    st.tuples(
        st.sampled_from("AB"),
        st.sampled_from(["o1", "o2"]),
        st.one_of(st.none(), st.sampled_from(["p1", "p2", "p3"])),
        st.sampled_from("xy"),
    ),
    max_size=20,
)


def new(product: str, obs_id: str, processing_id: str | None, content: str = "") -> NewProduct:
    return NewProduct(
        product=product,
        obs_id=obs_id,
        # A processing is of one observation.
        processing_id=processing_id and f"{processing_id}-{obs_id}",
        attempt=None,
        sha256=hashlib.sha256(content.encode()).hexdigest(),
        size=len(content),
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
def test_versions_have_no_gaps_and_an_import_sent_again_has_one(asked: list[Import]) -> None:
    with (
        TemporaryDirectory() as folder,
        open_database(f"sqlite:///{folder}/sdb.db", MIGRATIONS) as engine,
    ):
        catalogue = Catalogue(engine, "http://sdb")
        recorded = [record(engine, catalogue, new(*one)) for one in asked]
        with engine.connect() as connection:
            outbox = connection.execute(sa.select(OUTBOX).order_by(OUTBOX.c.id)).all()
    versions: dict[tuple[str, str], list[tuple[str | None, str]]] = {}
    for (product, obs_id, processing, content), outcome in zip(asked, recorded, strict=True):
        made = versions.setdefault((product, obs_id), [])
        by_it = [number for number, each in enumerate(made, 1) if each[0] == processing]
        if processing is not None:
            repeated = by_it[-1] if by_it else None
        else:
            repeated = len(made) if made[-1:] == [(None, content)] else None
        if repeated is None:
            made.append((processing, content))
        assert outcome.is_new is (repeated is None)
        assert outcome.stored.version == (repeated or len(made))
    assert [(e.event["product"], e.event["version"]) for e in outbox] == [
        (one.stored.product, one.stored.version) for one in recorded if one.is_new
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


def test_a_lineage_is_that_of_before_a_withdrawal_or_of_after_it(engine: sa.Engine) -> None:
    catalogue = Catalogue(engine, "http://sdb")

    def make(obs_id: str) -> None:
        record(engine, catalogue, new("A", obs_id, None))
        made = replace(new("B", obs_id, None), inputs=(InputRef(product="A", version=1),))
        record(engine, catalogue, made)

    def withdraw(obs_id: str) -> None:
        with engine.begin() as connection:
            catalogue.withdraw(connection, "B", obs_id, 1, "noise")

    def ask(obs_id: str) -> Lineage | str:
        try:
            return catalogue.lineage("B", obs_id)
        except ProblemError as exc:
            return str(exc)

    require_one_moment(engine, ask, withdraw, make)
