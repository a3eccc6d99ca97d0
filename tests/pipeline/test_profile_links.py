"""From a processing at its pipeline to the link that the conductor and its commands show."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from batuta.cli.app import run
from batuta.conductor import ConductorSettings
from batuta.conductor.service import open_conductor
from batuta.messaging import DataAvailable, NatsConfig, connect
from batuta.profiling.capture.layout import SUMMARY_HTML
from tests.conductor.graphs import graph_of
from tests.pipeline.conftest import PROFILED, StartPipeline
from tests.pipeline.pipeline_process import Record
from tests.pipeline.profiled import PARTS
from tests.support.databases import migrated_sqlite
from tests.support.servers import NatsServer
from tests.support.services import serving
from tests.support.waiting import eventually_sync

Capture = pytest.CaptureFixture[str]
PROVIDER = "profiled_pipeline"
PRODUCTS = ("ONE", "NONE", "KILLED")


@pytest.fixture
def settings_of_conductor(tmp_path: Path, own_nats: NatsServer, sdb_url: str) -> ConductorSettings:
    products: dict[str, dict[str, object]] = {
        name: {"m_input": ["A"], "provider": PROVIDER, "max_attempts": 1} for name in PRODUCTS
    }
    graph = tmp_path / "graph.json"
    graph.write_text(json.dumps(graph_of(["A"], products).as_document()))
    return ConductorSettings(
        port=0,
        graph=graph,
        nats_url=own_nats.url,
        sdb_url=sdb_url,
        database_url=migrated_sqlite(tmp_path / "conductor.db"),
    )


async def announce(nats_url: str) -> None:
    """Announce that ``A`` is available."""
    async with connect(NatsConfig(url=nats_url), "test") as bus:
        await bus.publish_data(DataAvailable(product="A", obs_id="o1"), "test")


def test_the_link_goes_from_the_pipeline_to_the_commands(
    settings_of_conductor: ConductorSettings, start_pipeline: StartPipeline, capsys: Capture
) -> None:
    pipeline = start_pipeline(PROFILED, nats_url=settings_of_conductor.nats_url)
    address = str(pipeline.http.base_url).rstrip("/")
    settings = settings_of_conductor.model_copy(update={"provider_urls": {PROVIDER: address}})
    with serving(open_conductor, settings) as url:
        asyncio.run(announce(settings.nats_url))

        def ended() -> dict[str, Record] | None:
            items = httpx.get(f"{url}/processings").json()["items"]
            over = {each["product"]: each for each in items if each["ended"]}
            return over if len(over) == len(PRODUCTS) else None

        records = eventually_sync(ended, timeout_s=60)
        assert records is not None
        one, killed = records["ONE"], records["KILLED"]
        assert one["profile"] == f"{address}/processing/{one['id']}/profile"
        assert httpx.get(one["profile"], timeout=60).text == f"o1: {SUMMARY_HTML}"
        assert killed["state"] == "failed"
        assert PARTS[0] in httpx.get(killed["profile"], timeout=60).text
        assert records["NONE"]["profile"] is None
        detail = httpx.get(f"{url}/observations/o1").json()["products"]
        links = {each["product"]: each["processing"]["profile"] for each in detail[1:]}
        assert links == {name: records[name]["profile"] for name in PRODUCTS}

        assert run(["why", "ONE", "o1", "--conductor-url", url]) == 0
        assert capsys.readouterr().out.endswith(f"profile of ONE of o1: {one['profile']}\n")
        assert run(["why", "NONE", "o1", "--conductor-url", url]) == 0
        assert "profile of" not in capsys.readouterr().out
        assert run(["status", "--conductor-url", url]) == 0
        assert f"profile of KILLED of o1: {killed['profile']}\n" in capsys.readouterr().out
