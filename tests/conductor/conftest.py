"""What several tests of the conductor share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from batuta.graph import Graph
from batuta.sdb import SdbSettings
from batuta.sdb.service import open_sdb
from batuta.service.settings import ServiceSettings
from tests.conductor.harness import Harness, OpenLedger
from tests.conductor.stage import Stage
from tests.support.databases import migrated_sqlite
from tests.support.servers import NatsServer
from tests.support.services import serving


@pytest.fixture
def stage(tmp_path: Path, own_nats: NatsServer) -> Iterator[Stage]:
    sdb_settings = SdbSettings(
        port=0,
        nats_url=own_nats.url,
        database_url=migrated_sqlite(tmp_path / "sdb.db"),
        store_url=str(tmp_path / "products"),
    )
    with serving(open_sdb, sdb_settings) as sdb_url:
        stage = Stage(tmp_path, own_nats, sdb_url)
        with serving(stage.pipeline.open, ServiceSettings(port=0)) as stage.pipeline_url:
            yield stage
            if stage.conductor is not None:
                stage.conductor.kill()


@pytest.fixture
def open_ledger(database_url: str) -> Iterator[OpenLedger]:
    """Opens ledgers on one database."""
    opened: list[Harness] = []

    def open_it(graph: Graph) -> Harness:
        opened.append(Harness(database_url, graph))
        return opened[-1]

    yield open_it
    for harness in opened:
        harness.close()


@pytest.fixture
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cell of a table is wrapped: how wide the terminal is was decided by whoever came first."""
    monkeypatch.setattr("batuta.cli.output.console", Console(width=250))
