"""A conductor's surroundings for its tests: NATS, a real sdb, and a scripted pipeline."""

import asyncio
import contextlib
import json
import sqlite3
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import nats
import nats.errors

from batuta.conductor import ConductorSettings
from batuta.graph import Graph
from batuta.sdb import SdbClient
from tests.support.databases import migrated_sqlite
from tests.support.scripted import ScriptedPipeline
from tests.support.servers import NatsServer
from tests.support.services import ServiceProcess
from tests.support.waiting import eventually_sync

ANSWER_S = 30.0
"""For an answer, beside other tests on a small machine."""


class Stage:
    """A conductor's surroundings: NATS, sdb, and the pipeline ``maker``."""

    def __init__(self, folder: Path, nats_server: NatsServer, sdb_url: str) -> None:
        self.folder = folder
        self.nats = nats_server
        self.sdb_url = sdb_url
        self.pipeline = ScriptedPipeline()
        self.pipeline.archive = lambda processing: self.archive(
            processing["product"], processing["obs_id"], processing["id"]
        )
        self.pipeline_url = ""
        self.token: str | None = None
        """Shown to the sdb."""
        self.conductor: ServiceProcess | None = None

    def settings(self, graph: Graph, **given: Any) -> ConductorSettings:
        path = self.folder / "graph.json"
        path.write_text(json.dumps(graph.as_document()))
        values = {
            "port": 0,
            "graph": path,
            "nats_url": self.nats.url,
            "sdb_url": self.sdb_url,
            "database_url": migrated_sqlite(self.folder / "conductor.db"),
            "provider_urls": {"maker": f"{self.pipeline_url}/pipeline"},
            "retry_wait_s": 0.05,
            "ask_after_s": 0.1,
            **given,
        }
        return ConductorSettings(**values)

    def archive(
        self,
        product: str,
        obs_id: str,
        processing_id: str | None = None,
        content: bytes | None = None,
    ) -> None:
        """Import a product into the sdb, of bytes of its own: the same again change nothing."""
        with (
            tempfile.NamedTemporaryFile(dir=self.folder) as file,
            SdbClient(self.sdb_url, token=self.token) as sdb,
        ):
            file.write(content or uuid.uuid4().bytes)
            file.flush()
            sdb.import_file(Path(file.name), product, obs_id, processing_id=processing_id)

    def archived(self) -> set[tuple[str, str, int]]:
        """What the sdb holds."""
        with SdbClient(self.sdb_url) as sdb:
            return {(stored.product, stored.obs_id, stored.version) for stored in sdb.list()}

    def lose(self, which: str) -> None:
        """Remove records from the sdb, as restoring it from a backup does."""
        with contextlib.closing(sqlite3.connect(self.folder / "sdb.db")) as database, database:
            database.execute(f"DELETE FROM products WHERE {which}")  # noqa: S608  of a test's own

    def publish(self, subject: str, *payloads: bytes) -> None:
        """Publish as any NATS client would."""

        async def send() -> None:
            client = await nats.connect(self.nats.url)
            for payload in payloads:
                await client.publish(subject, payload)
            await client.drain()

        asyncio.run(send())

    async def stored(self, news: dict[str, str]) -> bool:
        """Publish, and tell whether a stream has stored it; there may be none yet."""
        client = await nats.connect(self.nats.url)
        try:
            await client.jetstream().publish("data.vhf", json.dumps(news).encode())
        except nats.errors.Error:
            return False
        finally:
            await client.close()
        return True

    def announce(self, product: str, *observations: str) -> None:
        self.publish(
            "data.vhf",
            *(json.dumps({"product": product, "obs_id": o}).encode() for o in observations),
        )

    def asked_for(self) -> list[tuple[str, str]]:
        return sorted((body["product"], body["obs_id"]) for body in self.pipeline.requests)


def get(url: str, path: str) -> Any:
    return httpx.get(f"{url}{path}", timeout=ANSWER_S).raise_for_status().json()


def states(url: str) -> dict[str, str]:
    """State of each product's newest processing."""
    items = get(url, "/processings?limit=1000")["items"]
    return {f"{item['product']}/{item['obs_id']}": item["state"] for item in reversed(items)}


def eventually_in(url: str, expected: dict[str, str]) -> None:
    with contextlib.suppress(AssertionError):
        eventually_sync(lambda: states(url) == expected)
    assert states(url) == expected


def one_processing(url: str) -> Callable[[], Any]:
    def probe() -> Any:
        items = get(url, "/processings")["items"]
        return items[0] if items else None

    return probe
