"""The bare loop: nats-py, one commit to SQLite with full sync and an HTTP request, no more.

Run with ``NATS_URL FOLDER MAKER_URL DEPTH``, it serves the stream BARE until it is killed: a
message ``{"product", "obs_id"}`` is recorded as its next product, acknowledged and requested; below
DEPTH the next message is published at once, as if the product had been made and archived.
"""

import asyncio
import json
import sqlite3
import sys
from pathlib import Path

import aiohttp
import nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext


class BareLoop:
    """Does it for one message after the other."""

    def __init__(
        self, folder: Path, session: aiohttp.ClientSession, jetstream: JetStreamContext
    ) -> None:
        self._database = sqlite3.connect(folder / "bare.db", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE heard (claim TEXT PRIMARY KEY)")
        self._session = session
        self._jetstream = jetstream

    async def on_message(self, message: Msg, url: str, depth: int) -> None:
        """Record, acknowledge, request."""
        news = json.loads(message.data)
        level = int(news["product"][1:]) + 1
        claim = f"L{level} of {news['obs_id']}"
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute("INSERT INTO heard VALUES (?)", (claim,))
        self._database.execute("COMMIT")
        await message.ack()
        body = {"product": f"L{level}", "obs_id": news["obs_id"], "processing_id": claim}
        async with self._session.post(f"{url}/maker{level}/processing", json=body) as answer:
            await answer.read()
        made = json.dumps({"product": f"L{level}", "obs_id": news["obs_id"]}).encode()
        if level < depth:
            await self._jetstream.publish("bare.sdb", made)
        else:
            await self._jetstream.publish("baredone.sdb", made)


async def _serve(nats_url: str, folder: Path, url: str, depth: int) -> None:
    client = await nats.connect(nats_url)
    jetstream = client.jetstream()
    await jetstream.add_stream(name="BARE", subjects=["bare.*"])
    await jetstream.add_stream(name="BAREDONE", subjects=["baredone.*"])
    async with aiohttp.ClientSession() as session:
        loop = BareLoop(folder, session, jetstream)

        async def on_message(message: Msg) -> None:
            await loop.on_message(message, url, depth)

        await jetstream.subscribe("bare.*", cb=on_message, manual_ack=True)
        print(f"bare loop listening on {nats_url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
