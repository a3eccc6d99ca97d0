"""A small orchestra with its dashboard, for tests."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batuta.conductor.service import open_conductor
from batuta.dashboard.service import open_dashboard
from batuta.dashboard.settings import DashboardSettings
from batuta.graph import Graph
from batuta.sdb import SdbSettings
from batuta.sdb.service import open_sdb
from batuta.service.settings import ServiceSettings
from tests.conductor.stage import Stage
from tests.support.databases import migrated_sqlite
from tests.support.servers import NatsServer
from tests.support.services import serving

MADE = {"o_input": [], "provider": "maker", "url": "http://127.0.0.1:1"}
GRAPH = Graph.parse(
    {
        "inputs": ["A"],
        "products": {"B": {"m_input": ["A"], **MADE}, "C": {"m_input": ["B"], **MADE}},
    }
)


@dataclass
class Watched:
    """A running orchestra, and its dashboard."""

    stage: Stage
    conductor_url: str
    url: str


@pytest.fixture
def watched(tmp_path: Path, own_nats: NatsServer) -> Iterator[Watched]:
    """Everything without a token, in threads of this process."""
    with playing(tmp_path, own_nats) as found:
        yield found


@contextmanager
def playing(
    folder: Path, own_nats: NatsServer, conducted: Mapping[str, Any] | None = None, **given: str
) -> Iterator[Watched]:
    """Play an orchestra.

    Parameters
    ----------
    conducted : mapping, optional
        Settings of the conductor alone; `graph` is the one that it begins with.
    given : str
        Settings of all services, such as their token.
    """
    settings = dict(conducted or {})
    graph = settings.pop("graph", GRAPH)
    sdb_settings = SdbSettings.model_validate(
        {
            "port": 0,
            "nats_url": own_nats.url,
            "database_url": migrated_sqlite(folder / "sdb.db"),
            "store_url": str(folder / "products"),
            **given,
        }
    )
    with serving(open_sdb, sdb_settings) as sdb_url:
        stage = Stage(folder, own_nats, sdb_url)
        stage.token = given.get("token")
        with (
            serving(stage.pipeline.open, ServiceSettings(port=0)) as stage.pipeline_url,
            serving(open_conductor, stage.settings(graph, **given, **settings)) as conductor_url,
            serving(open_dashboard, dashboard_settings(stage, conductor_url, **given)) as url,
        ):
            yield Watched(stage, conductor_url, url)


def dashboard_settings(stage: Stage, conductor_url: str, **given: str) -> DashboardSettings:
    """Return the settings of a dashboard of `stage`."""
    values = {"nats_url": stage.nats.url, "sdb_url": stage.sdb_url, "conductor_url": conductor_url}
    return DashboardSettings.model_validate({"port": 0, **values, **given})
