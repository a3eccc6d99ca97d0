"""What surrounds a conductor, as it was when the conductor's power was lost.

A conductor that is started anew must find what others knew at that moment, and no later: a message
that it has not acknowledged is delivered again, a product that it has not requested is not there.
"""

import asyncio
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import nats
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy

from batuta.messaging.subjects import DATA_STREAM
from batuta.sdb import SdbSettings
from batuta.sdb.service import open_sdb
from batuta.service.settings import ServiceSettings
from tests.conductor.stage import Stage
from tests.support.power_loss.points import Said
from tests.support.power_loss.scenarios.surroundings import is_all_announced
from tests.support.servers import NatsServer
from tests.support.services import serving
from tests.support.waiting import eventually_sync

ACKNOWLEDGED: Final = re.compile(
    rb"PUB \$JS\.ACK\.DATA\.[^. ]+\.\d+\.(\d+)\.\S+ +(?:0\r|4\r\n\+ACK)"
)
_REQUESTED: Final = re.compile(rb"POST /pipeline/processing HTTP.*?\r\n\r\n(\{.*)", re.DOTALL)


@dataclass(frozen=True)
class Request:
    """What a conductor has asked a pipeline for."""

    id: str
    product: str
    obs_id: str
    attempt: int


@dataclass(frozen=True)
class _Message:
    """A message of the stream of data."""

    subject: str
    headers: dict[str, str] | None
    data: bytes

    @property
    def processing_id(self) -> str | None:
        """What has made the product, or None where it came from outside."""
        document = json.loads(self.data)
        found: str | None = document.get("data", document).get("processing_id")
        return found


@dataclass(frozen=True)
class World:
    """All that surrounds a conductor, at the end of its work.

    Attributes
    ----------
    folder : Path
        A copy of the sdb.
    nats : NatsServer
        Where its messages were, and will be.
    processings : dict
        What the pipeline has of each that was requested.
    messages : sequence
        All of the stream, in their order.
    consumers : sequence
        Those that conductors had created.
    """

    folder: Path
    nats: NatsServer
    processings: dict[str, dict[str, Any]]
    messages: Sequence[_Message]
    consumers: Sequence[ConsumerConfig]

    @contextmanager
    def as_of(self, said: Said) -> Iterator[Stage]:
        """Play it as it was once the conductor had said this."""
        processings = self._processings(requests(said))
        made = [key for key, each in processings.items() if each["state"] == "succeeded"]
        folder = _copied(self.folder)
        try:
            _keep_products(folder / "sdb.db", made)
            asyncio.run(self._rewind(made, _acknowledged_all_to(said)))
            with stage_in(folder, self.nats) as stage:
                stage.pipeline.processings.update(processings)
                yield stage
        finally:
            shutil.rmtree(folder)

    def _processings(self, known: Sequence[Request]) -> dict[str, dict[str, Any]]:
        """Return what the pipeline had of them: an attempt before the last one had failed."""
        found = {}
        for each in sorted(known, key=lambda each: each.attempt):
            last = self.processings[each.id]
            failed = {"attempt": each.attempt, "state": "failed", "error": "scripted"}
            found[each.id] = {**last} if last["attempt"] == each.attempt else {**last, **failed}
        return found

    async def _rewind(self, made: Sequence[str], acknowledged: int) -> None:
        """Publish what was published until then, with the same numbers, and what is from outside.

        What was announced after something that was not yet made, but is made, is announced later.
        """
        there = [each.processing_id in {None, *made} for each in self.messages]
        messages = [each for each, is_there in zip(self.messages, there, strict=True) if is_there]
        client = await nats.connect(self.nats.url)
        try:
            stream = client.jetstream()
            config = (await stream.stream_info(DATA_STREAM)).config
            await stream.delete_stream(DATA_STREAM)
            await stream.add_stream(config)
            for each in messages:
                await stream.publish(each.subject, each.data, headers=each.headers)
            for consumer in self.consumers:
                await stream.add_consumer(DATA_STREAM, _from(consumer, acknowledged + 1))
        finally:
            await client.close()


def requests(said: Said) -> list[Request]:
    """Return all that was asked of the pipeline."""
    found = []
    for message in said:
        for body in _REQUESTED.findall(message):
            told, _ = json.JSONDecoder().raw_decode(body.decode())
            found.append(
                Request(told["processing_id"], told["product"], told["obs_id"], told["attempt"])
            )
    return found


@contextmanager
def stage_in(folder: Path, server: NatsServer) -> Iterator[Stage]:
    """Serve an sdb whose data is there, and a pipeline that makes the same bytes each time."""
    settings = SdbSettings(
        port=0,
        nats_url=server.url,
        database_url=f"sqlite:///{folder}/sdb.db",
        store_url=str(folder / "store"),
    )
    with serving(open_sdb, settings) as sdb_url:
        stage = Stage(folder, server, sdb_url)
        stage.pipeline.archive = lambda made: stage.archive(
            made["product"], made["obs_id"], made["id"], content=made["id"].encode()
        )
        with serving(stage.pipeline.open, ServiceSettings(port=0)) as stage.pipeline_url:
            yield stage


def world_of(stage: Stage) -> World:
    """Return what a stage is now."""
    eventually_sync(lambda: is_all_announced(stage.folder / "sdb.db"))
    messages, consumers = asyncio.run(_read_stream(stage.nats.url))
    processings = {key: dict(each) for key, each in stage.pipeline.processings.items()}
    return World(_copied(stage.folder), stage.nats, processings, messages, consumers)


def _copied(folder: Path) -> Path:
    """Copy an sdb's data, beside it."""
    copy = Path(mkdtemp(prefix="world-", dir=folder.parent))
    with (
        closing(sqlite3.connect(folder / "sdb.db")) as source,
        closing(sqlite3.connect(copy / "sdb.db")) as target,
    ):
        source.backup(target)
    shutil.copytree(folder / "store", copy / "store")
    return copy


def _keep_products(path: Path, made: Sequence[str]) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "DELETE FROM products WHERE processing_id NOT IN (SELECT value FROM json_each(?))",
            (json.dumps(made),),
        )


def _acknowledged_all_to(said: Said) -> int:
    """Return the last number to which all messages were acknowledged."""
    numbers = {int(each) for message in said for each in ACKNOWLEDGED.findall(message)}
    return next(each for each in range(len(numbers) + 1) if each + 1 not in numbers)


def _from(consumer: ConsumerConfig, number: int) -> ConsumerConfig:
    return consumer.evolve(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=number)


async def _read_stream(url: str) -> tuple[list[_Message], list[ConsumerConfig]]:
    client = await nats.connect(url)
    try:
        stream = client.jetstream()
        messages = await _messages(stream)
        consumers = [each.config for each in await stream.consumers_info(DATA_STREAM)]
        return messages, [each for each in consumers if each is not None]
    finally:
        await client.close()


async def _messages(stream: JetStreamContext) -> list[_Message]:
    state = (await stream.stream_info(DATA_STREAM)).state
    found = [await stream.get_msg(DATA_STREAM, each + 1) for each in range(state.last_seq)]
    return [_Message(each.subject or "", each.headers, each.data or b"") for each in found]
