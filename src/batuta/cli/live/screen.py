"""The live state drawn in a terminal: products by observation, running processings, events."""

from collections.abc import Mapping

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from batuta.cli.live.event_lines import WITHDRAWN
from batuta.cli.live.state import AVAILABLE, LiveState, RunningProcessing
from batuta.cli.output import STATE_STYLES
from batuta.formatting import format_count, format_seconds
from batuta.messaging import ProcessingState, utc_now

MARKS = {
    AVAILABLE: "✔",
    "running": "▶",
    "queued": "…",
    "requested": "…",
    "waiting": "…",
    "retrying": "↻",
    "held": "‖",
    "unapproved": "?",
    "refused": "✘",
    "failed": "✘",
    "cancelled": "✘",
    WITHDRAWN: "✘",
}
MAX_COLUMNS = 6
"""With more observations than this, each has a row instead of a column."""
COUNTED = ("retrying", "held", "unapproved", "failed")
"""States that are counted, where observations are many."""
MAX_RUNNING = 8
MIN_EVENTS = 5
"""Lines of events that stay visible on a small terminal: the tables give way."""
MAX_EVENTS = 14
MATRIX_FRAME = 7
"""Lines of the matrix that are no product: its title and header, and what it leaves out."""
PANEL_FRAME = 2
CELL_WIDTH = 12
"""Characters of a state, with its mark."""
CELL_FRAME = 3


class LiveScreen:
    """A renderable that shows the live state at the moment it is drawn.

    Parameters
    ----------
    live_state : LiveState
        The state to show.
    title : str
        The first line.
    """

    def __init__(self, live_state: LiveState, title: str) -> None:
        self._live_state = live_state
        self._title = title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the current size of the terminal."""
        height = options.max_height or console.height
        left = height - len(self._shown_running()) - 2 * PANEL_FRAME - 1
        rows = max(1, left - MATRIX_FRAME - MIN_EVENTS)
        table = self._matrix(rows) if self._fits(options.max_width) else self._list(rows)
        # The space below the tables shows the latest events.
        events = max(MIN_EVENTS, min(left - MATRIX_FRAME - table.row_count, MAX_EVENTS))
        yield Group(table, self._running(), self._recent_events(events, console, options.max_width))

    def _fits(self, width: int) -> bool:
        """Return whether observations are few, and have room for a column each."""
        observations = self._live_state.states
        products = [name for level in self._live_state.graph.levels()[1:] for name in level]
        least = max(map(len, products), default=0) + CELL_FRAME
        least += sum(max(len(each), CELL_WIDTH) + CELL_FRAME for each in observations)
        return len(observations) <= MAX_COLUMNS and least <= width

    def _matrix(self, max_rows: int) -> Table:
        table = Table(title=self._title, title_justify="left", header_style="bold", expand=True)
        table.add_column("product")
        observations = sorted(self._live_state.states)
        expected = {obs_id: self._live_state.expected(obs_id) for obs_id in observations}
        for obs_id in observations:
            made = self._live_state.made(obs_id)
            table.add_column(f"{obs_id}\n{made}/{len(expected[obs_id])}", justify="center")
        names = [name for level in self._live_state.graph.levels()[1:] for name in level]
        shown = self._most_telling(names, expected, max_rows)
        for name in shown:
            cells = [self._cell(obs_id, name, expected[obs_id]) for obs_id in observations]
            table.add_row(name, *cells)
        if len(shown) < len(names):
            table.caption = f"{format_count(len(names) - len(shown), 'more product')}"
            table.caption_justify = "left"
        return table

    def _most_telling(
        self, names: list[str], expected: Mapping[str, frozenset[str]], max_rows: int
    ) -> list[str]:
        """Return as many products as fit, in their order: first those that something happens to."""
        if len(names) <= max_rows:
            return names

        def rank(name: str) -> int:
            states = {
                self._live_state.states[obs_id].get(name)
                for obs_id, products in expected.items()
                if name in products
            }
            if states - {None, AVAILABLE}:
                return 0
            return 1 if None in states else 2

        chosen = set(sorted(names, key=rank)[:max_rows])
        return [name for name in names if name in chosen]

    def _cell(self, obs_id: str, product: str, expected: frozenset[str]) -> Text:
        state = self._live_state.states[obs_id].get(product)
        if state is not None:
            return Text(f"{MARKS.get(state, '?')} {state}", style=STATE_STYLES.get(state, ""))
        return Text("·" if product in expected else "", style="dim")

    def _list(self, max_rows: int) -> Table:
        table = Table(title=self._title, title_justify="left", header_style="bold", expand=True)
        states = {obs_id: list(found.values()) for obs_id, found in self._live_state.states.items()}
        # On a narrow terminal each column counts: those that have nothing to tell are left out.
        counted = [name for name in COUNTED if any(name in each for each in states.values())]
        table.add_column("observation", no_wrap=True)
        table.add_column("made", no_wrap=True)
        table.add_column("", ratio=1)
        for column in ("moving", *counted):
            table.add_column(column, no_wrap=True)
        unfinished = sorted(states, key=lambda obs_id: (self._complete(obs_id), obs_id))
        for obs_id in unfinished[:max_rows]:
            made, total = self._live_state.made(obs_id), len(self._live_state.expected(obs_id))
            of_one = states[obs_id]
            moving = sum(of_one.count(state) for state in ("queued", "running", "requested"))
            table.add_row(
                obs_id,
                f"{made}/{total}",
                ProgressBar(total or 1, made),
                *(str(n or "") for n in (moving, *map(of_one.count, counted))),
            )
        return table

    def _complete(self, obs_id: str) -> bool:
        return self._live_state.made(obs_id) >= len(self._live_state.expected(obs_id))

    def _shown_running(self) -> list[RunningProcessing]:
        everything = self._live_state.running.values()
        running = [one for one in everything if one.processing.state is ProcessingState.RUNNING]
        return running[:MAX_RUNNING]

    def _running(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(overflow="fold")
        grid.add_column(overflow="fold")
        for one in self._shown_running():
            processing = one.processing
            done, total = processing.progress.done, processing.progress.total
            began = processing.started
            elapsed = format_seconds((utc_now() - began).total_seconds()) if began else ""
            bar = ProgressBar(total, done, width=30) if total else Text("")
            count = f"{done}/{total}" if total else ""
            grid.add_row(processing.obs_id, processing.product, one.provider, bar, count, elapsed)
        queued = len(self._live_state.running) - len(self._shown_running())
        subtitle = f"{queued} more queued or running" if queued > 0 else None
        return Panel(grid, title="processings", title_align="left", subtitle=subtitle)

    def _recent_events(self, count: int, console: Console, width: int) -> RenderableType:
        """Draw the latest events, wrapped: the end of a line is where its cause is."""
        lines = list(self._live_state.lines)[-count:]
        text = Text("\n").join(
            Text.assemble(
                (f"{line.at:%H:%M:%S} ", "dim"),
                (line.text, STATE_STYLES.get(line.state, "")),
            )
            for line in lines
        )
        wrapped = text.wrap(console, max(1, width - 4), overflow="fold")
        return Panel(Text("\n").join(wrapped[-count:]), title="events", title_align="left")
