"""A version tells how definitive it is, and the most definitive one is the newest."""

import json
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from batuta.cli.app import run
from batuta.messaging import DataAvailable, DataWithdrawn
from batuta.messaging.events import data_of_type
from batuta.sdb import SdbClient
from batuta.sdb.catalogue import Catalogue
from batuta.sdb.lists import ProductQuery
from batuta.sdb.lookup import Lookup, find_versions
from batuta.sdb.tables import MIGRATIONS
from batuta.service.client import ServiceError
from batuta.service.database import open_database
from batuta.stages import Stage
from batuta.work_classes import WorkClass
from tests.sdb.test_catalogue import new, record
from tests.sdb.test_outbox import announced
from tests.support.servers import NatsServer


@pytest.fixture
def nats_of_sdb(own_nats: NatsServer) -> NatsServer:
    """What a test announces is all that there is."""
    return own_nats


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    with open_database(database_url, MIGRATIONS) as opened:
        yield opened


def test_the_newest_version_is_the_last_one_of_the_highest_stage(engine: sa.Engine) -> None:
    catalogue = Catalogue(engine, "http://sdb")
    stages: tuple[Stage | None, ...] = ("preliminary", 2, "final", None)
    for number, order in enumerate(permutations(stages)):
        obs_id = f"o{number}"
        for stage in order:
            product = new("A", obs_id, None)
            record(engine, catalogue, type(product)(**{**vars(product), "stage": stage}))
        # What tells no stage is final: of the two that are, the last one is newer.
        expected = max(order.index("final"), order.index(None)) + 1
        assert catalogue.find("A", obs_id).version == expected
        page = catalogue.page(ProductQuery(obs_id=obs_id, latest=True))
        assert [each.version for each in page.items] == [expected]
        (found,) = find_versions(engine, [Lookup(product="A", obs_id=obs_id)])
        assert found is not None
        assert (found.version, found.stage) == (expected, order[expected - 1])
        assert [each.stage for each in catalogue.page(ProductQuery(obs_id=obs_id)).items] == [
            *order
        ]


async def test_an_import_tells_its_stage_and_its_announcement_carries_it(
    sdb_url: str, tmp_path: Path, nats_of_sdb: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("a")
    with SdbClient(sdb_url) as client:
        # In the address, in a form, and by hand.
        assert client.import_file(file, "A", "o1", stage="final").stage == "final"
        long = {"metadata": {"x": "y" * 20_000}}
        assert client.import_file(file, "A", "o1", stage=3, **long).stage == 3  # type: ignore[arg-type]
        by_hand = ["import", "--product", "A", "--obs-id", "o1", "--stage", "preliminary"]
        by_hand += ["--class", "alert"]
        assert run([*by_hand, "--sdb-url", sdb_url, str(file)]) == 0
        assert "version 3 (preliminary), imported" in capsys.readouterr().out
        stored = client.import_file(file, "A", "o1", work_class=WorkClass.BACKFILL)
        assert stored.stage is None
        assert client.withdraw("A", "o1", 4).stage is None
        assert client.get("A", "o1").version == 1
    assert run(["ls", "--sdb-url", sdb_url, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    told = ["final", 3, "preliminary"]
    assert [each["stage"] for each in listed] == told
    events = [data_of_type(each.type, each.data) for each in await announced(nats_of_sdb, 5)]
    available = [each for each in events if isinstance(each, DataAvailable)]
    assert [each.stage for each in available] == [*told, None]
    # How urgent it is, which a notification tells once, is not kept.
    assert [each.work_class for each in available] == [None, None, "alert", "backfill"]
    assert [each.newest for each in events if isinstance(each, DataWithdrawn)] == [1]


def test_what_is_no_stage_or_class_is_refused_and_nothing_is_imported(
    sdb_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted = "accepted: preliminary, final, or a whole number from 1 to 999999"
    file = tmp_path / "a"
    file.write_text("a")
    with httpx.Client(base_url=sdb_url) as http, SdbClient(sdb_url) as client:
        for stage in ("", "soon", "Final"):
            fields = {"product": "A", "obs_id": "o1", "stage": stage}
            for answer in (
                http.post("/products/A/o1", params={"stage": stage}, content=b"x"),
                http.post("/products", data=fields, files={"file": ("a", b"x")}),
            ):
                assert answer.status_code == 422
                assert answer.json()["detail"].startswith(f"stage: {stage!r} is no stage")
                assert accepted in answer.json()["detail"]
            by_hand = ["import", "--product", "A", "--obs-id", "o1", f"--stage={stage}"]
            assert run([*by_hand, "--sdb-url", sdb_url, str(file)]) == 2
            assert accepted in capsys.readouterr().err
        refused = http.post("/products/A/o1", params={"class": "soon"}, content=b"x")
        assert refused.json()["detail"] == (
            "class: 'soon' given (accepted: alert, live, reprocess, backfill)"
        )
        with pytest.raises(ServiceError, match="stage: 'soon' is no stage"):
            client.import_file(file, "A", "o1", stage="soon")  # type: ignore[arg-type]
        assert http.get("/products").json()["items"] == []
