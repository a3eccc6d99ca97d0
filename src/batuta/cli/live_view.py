"""Listening to a whole orchestra, and showing it live."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.msg import Msg
from rich.console import Console
from rich.live import Live

from batuta.cli.conductor_client import ConductorClient
from batuta.cli.live_state import Scene
from batuta.cli.screen import Screen
from batuta.graph import Graph
from batuta.messaging import (
    Bus,
    MalformedEventError,
    NatsConfig,
    connect,
    decode_activity,
    decode_data,
    subjects,
)

FRAMES_PER_S = 8


@asynccontextmanager
async def listening(bus: Bus, scene: Scene) -> AsyncIterator[None]:
    """Keep `scene` up to date with all that is published, from now on."""

    async def on_data(message: Msg) -> None:
        try:
            scene.hear_data(decode_data(message.data))
        except MalformedEventError as exc:
            scene.say(f"{message.subject}: not understood: {exc}", "failed")

    async def on_activity(message: Msg) -> None:
        try:
            scene.hear_activity(decode_activity(message.data))
        except MalformedEventError as exc:
            scene.say(f"{message.subject}: not understood: {exc}", "failed")

    subscriptions = [
        await bus.client.subscribe(subjects.DATA_SUBJECTS, cb=on_data),
        await bus.client.subscribe(subjects.ACTIVITY_SUBJECTS, cb=on_activity),
    ]
    await bus.client.flush()
    try:
        yield
    finally:
        if bus.connected:
            for subscription in subscriptions:
                await subscription.unsubscribe()


@asynccontextmanager
async def showing(scene: Scene, title: str, console: Console) -> AsyncIterator[None]:
    """Draw `scene` as it changes; on what is not a terminal, print its lines as they come."""
    if console.is_terminal:
        with Live(Screen(scene, title), console=console, refresh_per_second=FRAMES_PER_S):
            yield
        return
    printing = asyncio.create_task(_print_lines(scene, console))
    try:
        yield
    finally:
        printing.cancel()
        await asyncio.wait([printing])


async def _print_lines(scene: Scene, console: Console) -> None:
    last: object = None
    try:
        while True:
            last = _print_new(scene, console, last)
            await asyncio.sleep(1 / FRAMES_PER_S)
    finally:
        _print_new(scene, console, last)


def _print_new(scene: Scene, console: Console, last: object) -> object:
    lines = list(scene.lines)
    position = next((n + 1 for n, line in enumerate(lines) if line is last), 0)
    for line in lines[position:]:
        console.print(f"{line.at:%H:%M:%S} {line.text}", markup=False, highlight=False)
    return lines[-1] if lines else last


async def watch(nats: NatsConfig, conductor_url: str, console: Console) -> None:
    """Show what goes on until cancelled.

    Raises
    ------
    ServiceError, MessagingError
        If the conductor or NATS cannot be reached.
    """
    with ConductorClient(conductor_url) as conductor:
        document = await asyncio.to_thread(conductor.graph)
        scene = Scene(Graph.parse(document))
        async with connect(nats, "watch") as bus, listening(bus, scene):
            for observation in await asyncio.to_thread(lambda: list(conductor.observations())):
                found = await asyncio.to_thread(conductor.observation, observation["obs_id"])
                scene.learn(found)
            async with showing(scene, f"conductor at {conductor_url}", console):
                await asyncio.Event().wait()
