"""What drives a measure: publishes notifications, and waits for what follows from them."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

T = TypeVar("T")


async def start(stack: AsyncExitStack, context: AbstractContextManager[T]) -> T:
    """Enter what starts processes, in a thread: makers answer in this event loop meanwhile."""
    entered = await asyncio.to_thread(context.__enter__)
    stack.push(context.__exit__)
    return entered


@asynccontextmanager
async def connected(nats_url: str) -> AsyncIterator[Client]:
    """Connect to NATS."""
    client = await nats.connect(nats_url)
    try:
        yield client
    finally:
        await client.close()


def notification(obs_id: str) -> bytes:
    """Return the notification that the input of an observation is available."""
    return json.dumps({"product": "L0", "obs_id": obs_id}).encode()


class Made:
    """Waits until the last product of observations is announced on a subject."""

    def __init__(self, product: str) -> None:
        self._product = product
        self._announced: set[str] = set()
        self._changed = asyncio.Event()

    async def on_message(self, message: Msg) -> None:
        """Note an announcement, a CloudEvent or not."""
        body = json.loads(message.data)
        data = body.get("data", body)
        if data["product"] == self._product:
            self._announced.add(data["obs_id"])
            self._changed.set()

    async def wait_for(self, observations: Iterable[str], timeout_s: float = 120) -> None:
        """Return once it has been announced for all of them."""
        wanted = set(observations)
        async with asyncio.timeout(timeout_s):
            while not wanted <= self._announced:
                self._changed.clear()
                await self._changed.wait()
