# ruff: noqa: INP001  a script, of no package
"""Draws `live.svg`: the screen of `batuta watch`, as it is at one moment of a demonstration.

Start it, then ``batuta demo`` in another terminal. Where the demonstration takes other ports than
the default ones, give the addresses of its NATS and of its conductor. The moment is the first at
which the tiles of DISPARITY are half done again, after its kill.
"""

import asyncio
import io
import re
import sys
from pathlib import Path
from typing import Any, Final

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI

from batuta.cli.conductor_client import ConductorClient
from batuta.cli.demonstration.run import TITLE
from batuta.cli.live.screen import LiveScreen
from batuta.cli.live.state import LiveState
from batuta.cli.live.view import updated_by_events
from batuta.graph import Graph
from batuta.messaging import NatsConfig, connect
from batuta.service.client import ServiceError

TARGET: Final = Path(__file__).with_name("live.svg")
ADDRESSES: Final = ("nats://127.0.0.1:4222", "http://127.0.0.1:8002")
POLL_S: Final = 0.05
FORM: Final = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""Rich's own, but for its fonts: those are fetched from elsewhere."""


async def main(nats_url: str, conductor_url: str) -> None:
    """Wait for the demonstration, then for the moment, and draw it."""
    with ConductorClient(conductor_url) as conductor:
        live_state = LiveState(Graph.parse(await first_answer(conductor)))
        async with (
            connect(NatsConfig(url=nats_url), "live") as bus,
            updated_by_events(bus, live_state),
        ):
            for observation in conductor.observations():
                live_state.load_observation(conductor.observation(observation["obs_id"]))
            await draw(live_state)


async def first_answer(conductor: ConductorClient) -> dict[str, Any]:
    """The graph, once the conductor is there."""
    while True:
        try:
            return conductor.graph()
        except ServiceError:
            await asyncio.sleep(POLL_S)


async def draw(live_state: LiveState) -> None:
    """Draw `live_state` as it is when the moment has come."""
    while not moment(live_state):  # noqa: ASYNC110 a LiveState has no event to wait for
        await asyncio.sleep(POLL_S)
    console = Console(record=True, width=136, height=42, file=io.StringIO())
    console.print(LiveScreen(live_state, TITLE))
    console.save_svg(str(TARGET), title="batuta demo", theme=MONOKAI, code_format=FORM)


def moment(live_state: LiveState) -> bool:
    """Whether DISPARITY, killed once, has half of its tiles."""
    return live_state.retries > 0 and any(
        one.processing.product == "DISPARITY"
        and 0 < one.processing.progress.total <= 2 * one.processing.progress.done
        for one in live_state.running.values()
    )


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:] or ADDRESSES)))
