"""Following a whole orchestra on NATS, and displaying it live."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.msg import Msg
from rich.console import Console
from rich.live import Live

from batuta.cli.conductor_client import ConductorClient
from batuta.cli.live.event_lines import EventLines
from batuta.cli.live.screen import LiveScreen
from batuta.cli.live.state import LiveState
from batuta.graph import Graph
from batuta.messaging import (
    Activity,
    Bus,
    DataEvent,
    MalformedEventError,
    NatsConfig,
    connect,
    decode_activity,
    decode_data,
    subjects,
    utc_now,
)
from batuta.service.client import ServiceError

FRAMES_PER_S = 8
GRAPH_RETRY_S = 2.0
MAX_LOADED = 100
"""Observations that are shown as they are at the start, the latest; others as they change."""


@asynccontextmanager
async def updated_by_events(
    bus: Bus, live_state: "EventLines | EventPrinter"
) -> AsyncIterator[None]:
    """Keep `live` up to date with all that is published, as it is published from now on."""

    async def on_data(message: Msg) -> None:
        try:
            live_state.on_data(decode_data(message.data))
        except MalformedEventError as exc:
            live_state.log(f"{message.subject}: not understood: {exc}", "failed")

    async def on_activity(message: Msg) -> None:
        try:
            live_state.on_activity(decode_activity(message.data))
        except MalformedEventError as exc:
            live_state.log(f"{message.subject}: not understood: {exc}", "failed")

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
async def displayed(live_state: LiveState, title: str, console: Console) -> AsyncIterator[None]:
    """Draw `live` as it changes; on what is not a terminal, print its lines as they come."""
    if console.is_terminal:
        with Live(LiveScreen(live_state, title), console=console, refresh_per_second=FRAMES_PER_S):
            yield
        return
    async with printed(live_state, console):
        yield


@asynccontextmanager
async def printed(live_state: EventLines, console: Console) -> AsyncIterator[None]:
    """Print the lines of `live_state` as they come, each with its time."""
    printing = asyncio.create_task(_print_lines(live_state, console))
    try:
        yield
    finally:
        printing.cancel()
        await asyncio.wait([printing])


async def _print_lines(live_state: EventLines, console: Console) -> None:
    last: object = None
    try:
        while True:
            last = _print_new(live_state, console, last)
            await asyncio.sleep(1 / FRAMES_PER_S)
    finally:
        _print_new(live_state, console, last)


def _print_new(live_state: EventLines, console: Console, last: object) -> object:
    lines = list(live_state.lines)
    position = next((n + 1 for n, line in enumerate(lines) if line is last), 0)
    for line in lines[position:]:
        text = f"{line.at:%H:%M:%S} {line.text}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return lines[-1] if lines else last


async def _load_graph(conductor: ConductorClient, live_state: LiveState) -> None:
    """Show the products of the graph that is in force now."""
    while True:
        try:
            live_state.graph = Graph.parse(await asyncio.to_thread(conductor.graph))
        except ServiceError as exc:
            live_state.log(f"{exc}; asked again in {GRAPH_RETRY_S:g} s", "failed")
            await asyncio.sleep(GRAPH_RETRY_S)
        else:
            return


class EventPrinter:
    """Prints what is published as JSON, an object a line: as ``data``, or as ``activity``."""

    def on_data(self, news: DataEvent) -> None:
        """Print an event of ``data.*``."""
        self._print(data=news.model_dump(mode="json"))

    def on_activity(self, activity: Activity) -> None:
        """Print an event of ``activity.*``."""
        self._print(activity=activity.model_dump(mode="json", exclude_none=True))

    def log(self, text: str, _state: str = "") -> None:
        """Print what could not be understood."""
        self._print(problem=text)

    def _print(self, **told: object) -> None:
        # Flushed: whoever reads it acts on it now.
        print(json.dumps({"at": utc_now().isoformat(), **told}), flush=True)  # noqa: T201  the output


async def print_events(nats: NatsConfig) -> None:
    """Print what is published as JSON until cancelled.

    Raises
    ------
    MessagingError
        If NATS cannot be reached.
    """
    async with connect(nats, "watch") as bus, updated_by_events(bus, EventPrinter()):
        await asyncio.Event().wait()


async def watch(nats: NatsConfig, conductor_url: str, console: Console) -> None:
    """Display the live state until cancelled.

    Raises
    ------
    ServiceError, MessagingError
        If the conductor or NATS cannot be reached.
    """
    with ConductorClient(conductor_url) as conductor:
        document = await asyncio.to_thread(conductor.graph)
        live_state = LiveState(Graph.parse(document))
        async with connect(nats, "watch") as bus, updated_by_events(bus, live_state):
            latest = await asyncio.to_thread(conductor.latest_observations, MAX_LOADED)
            for observation in reversed(latest):
                found = await asyncio.to_thread(conductor.observation, observation["obs_id"])
                live_state.load_observation(found)
            changed = asyncio.Event()
            live_state.on_new_graph = changed.set
            async with displayed(live_state, f"conductor at {conductor_url}", console):
                while True:
                    await changed.wait()
                    changed.clear()
                    await _load_graph(conductor, live_state)
