"""Backlogs: work of one class that waits, in front of which something else is measured."""

import asyncio
import json
from typing import Any, Final

import aiohttp
from nats.aio.client import Client

from benchmarks.orchestra.support.services import levels

RUNNING_BACKFILLS: Final = 8
PUBLISHED_AT_ONCE: Final = 1000
LOOK_EACH_S: Final = 0.2


def classed(obs_id: str, work_class: str, product: str = "L0") -> bytes:
    """Return the notification that an input of an observation is available, with a class."""
    return json.dumps({"product": product, "obs_id": obs_id, "class": work_class}).encode()


def limited(url: str) -> dict[str, Any]:
    """Return a graph of one product whose provider takes few backfills at a time."""
    limits = {"maker1": {"max_concurrent_by_class": {"backfill": RUNNING_BACKFILLS}}}
    return {**levels(url, 1), "providers": limits}


async def announce(client: Client, number: int, work_class: str = "backfill") -> None:
    """Announce the inputs of so many observations."""
    stream = client.jetstream(publish_async_max_pending=PUBLISHED_AT_ONCE)
    for first in range(0, number, PUBLISHED_AT_ONCE):
        numbers = range(first, min(first + PUBLISHED_AT_ONCE, number))
        payloads = (classed(f"{work_class}-{each}", work_class) for each in numbers)
        await asyncio.gather(*(stream.publish("data.vhf", payload) for payload in payloads))


class Operator:
    """What an operator asks a conductor over REST."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def get(self, path: str) -> Any:
        """Return an answer."""
        return await self._ask("GET", path)

    async def post(self, path: str, body: Any = None) -> Any:
        """Send a body, and return the answer."""
        return await self._ask("POST", path, json=body)

    async def counts(self) -> dict[str, int]:
        """Return how many processings there are of each state."""
        found: dict[str, int] = (await self.get("/summary"))["processings"]
        return found

    async def wait_for_processings(self, number: int) -> None:
        """Return once so many have been claimed."""
        while sum((await self.counts()).values()) < number:  # noqa: ASYNC110  another's state
            await asyncio.sleep(LOOK_EACH_S)

    async def wait_until(self, state: str, number: int) -> None:
        """Return once so many processings are in a state."""
        while (await self.counts()).get(state, 0) < number:  # noqa: ASYNC110  another's state
            await asyncio.sleep(LOOK_EACH_S)

    async def _ask(self, method: str, path: str, **given: Any) -> Any:
        async with self._session.request(method, self._url + path, **given) as answer:
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status}: {await answer.text()}")
            return await answer.json()
