"""What of the world a simulation replaces, for as long as it runs, and puts back."""

import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import aiohttp
import anyio.to_thread
import httpx

from batuta.messaging import bus
from batuta.sdb import client as sdb_client
from batuta.sdb import download
from tests.support.simulation.clients import ClientSession, Connection, Transport
from tests.support.simulation.jetstream import Server
from tests.support.simulation.loop import SimulationLoop, current_thread, wait
from tests.support.simulation.network import Network

EPOCH_S = 1_800_000_000.0


@contextmanager
def replaced(
    loop: SimulationLoop, network: Network, server: Server, skew_s: Callable[[], float], seed: int
) -> Iterator[None]:
    """Replace the clock, the randomness, the threads and the network of this process.

    Parameters
    ----------
    loop, network, server
        Of the simulation.
    skew_s : callable
        How far the wall clock of the process that runs is ahead.
    seed : int
        Of what services draw themselves, such as ids.
    """
    entropy = random.Random(f"entropy {seed}")  # noqa: S311  a simulation, no secrets
    sleep = time.sleep

    def sleep_in_thread(seconds: float) -> None:
        if current_thread() is None:
            sleep(seconds)
        else:
            wait(_sleep(loop, seconds))

    async def run_sync(func: Callable[..., Any], *args: Any, **_: Any) -> Any:
        return await loop.run_in_executor(None, func, *args)

    replacements: list[tuple[Any, str, Any]] = [
        (time, "time", lambda: EPOCH_S + loop.time() + skew_s()),
        (time, "monotonic", loop.time),
        (time, "sleep", sleep_in_thread),
        (os, "urandom", entropy.randbytes),
        (random, "_urandom", entropy.randbytes),
        (anyio.to_thread, "run_sync", run_sync),
        (bus, "NatsClient", server.client),
        (aiohttp, "ClientSession", partial(ClientSession, network)),
        (aiohttp, "TCPConnector", lambda **_: None),
        (httpx, "HTTPTransport", lambda **_: Transport(network)),
        (httpx._client, "HTTPTransport", lambda **_: Transport(network)),
        # Nothing is encrypted here, and to make what could takes a millisecond for each client.
        (sdb_client, "tls_verification", lambda _: True),
        (download, "HTTPConnection", partial(Connection, network)),
    ]
    logged = logging.root.manager.disable
    with ExitStack() as stack:
        for module, name, value in replacements:
            stack.enter_context(patch.object(module, name, value))
        if not logging.getLogger("batuta.simulation").isEnabledFor(logging.DEBUG):
            # What a service says of each fault is a tenth of all that a schedule does.
            stack.callback(logging.disable, logged)
            logging.disable(logging.CRITICAL)
        yield


async def _sleep(loop: SimulationLoop, seconds: float) -> None:
    done = loop.create_future()
    loop.call_later(seconds, done.set_result, None)
    await done
