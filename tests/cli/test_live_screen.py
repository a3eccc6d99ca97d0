"""The live screen fits its terminal: the latest events stay visible, whatever its size."""

import io

import pytest
from rich.console import Console

from batuta.cli.live.screen import MIN_EVENTS, LiveScreen
from batuta.cli.live.state import LiveState
from batuta.messaging import DataAvailable
from tests.conductor.graphs import graph_of

PRODUCTS = 30
GRAPH = graph_of(["A"], {f"P{number:02}": {"m_input": ["A"]} for number in range(PRODUCTS)})


def drawn(live_state: LiveState, width: int, height: int) -> list[str]:
    text = io.StringIO()
    console = Console(file=text, width=width, height=height, force_terminal=False)
    console.print(LiveScreen(live_state, "the demonstration"))
    return text.getvalue().splitlines()


@pytest.mark.parametrize("observations", [1, 4, 40])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 40), (200, 60)])
def test_the_latest_events_are_visible_at_any_size(
    observations: int, width: int, height: int
) -> None:
    live_state = LiveState(GRAPH)
    for number in range(observations):
        live_state.on_data(DataAvailable(product="A", obs_id=f"o{number:02}"))
    for number in range(20):
        live_state.log(f"event {number}")
    lines = drawn(live_state, width, height)
    assert len(lines) <= height
    for number in range(20 - MIN_EVENTS, 20):
        assert any(f"event {number} " in line for line in lines)


def test_on_a_small_terminal_what_something_happens_to_is_shown_first() -> None:
    live_state = LiveState(GRAPH)
    live_state.on_data(DataAvailable(product="A", obs_id="o1"))
    live_state.states["o1"].update({"P29": "failed", "P28": "running", "P00": "available"})
    lines = drawn(live_state, 80, 24)
    assert any("P29" in line and "failed" in line for line in lines)
    assert any("P28" in line for line in lines)
    assert not any("P00" in line for line in lines)
    assert any("more products" in line for line in lines)
