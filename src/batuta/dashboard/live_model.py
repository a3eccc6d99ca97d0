"""What the dashboard shows live, kept up to date by the events of an orchestra.

It is a `LiveTable` with these keys:

``graph``
    The product graph in force: its version and document, its inputs and products level by level
    (in the order of the states of observations), and where a picture has each.
``obs/OBS_ID``
    ``{"s": "A.R", "t": 1764400000.1}``: the state of each product, a letter each (see
    `LETTERS`), and when the last one changed, in seconds since 1970.
``run/ID``
    A processing in progress at its provider.
``service/NAME``
    The status of a service, and when it was last heard of.
``lines``
    The latest news, a line each.

Others are what the conductor is asked for every few seconds: see `batuta.dashboard.poller`.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from batuta.dashboard.live_table import LiveTable
from batuta.dashboard.records import MatrixRow
from batuta.errors import shortened
from batuta.graph import Graph
from batuta.graph.show.layout import lay_out
from batuta.messaging import (
    Activity,
    DataEvent,
    DataWithdrawn,
    Processing,
    ProcessingState,
    ServiceStatus,
)
from batuta.messaging.news_lines import NOTICE, NewsLine, line_of_data, lines_of_activity

MAX_OBSERVATIONS: Final = 5000
"""Shown live: those heard of last. The conductor has the others."""
MAX_RUNNING: Final = 5000
MAX_SERVICES: Final = 500
MAX_LINES: Final = 50
MAX_LINE_LENGTH: Final = 400

MISSING: Final = "."
LETTERS: Final[Mapping[str, str]] = {
    "missing": MISSING,
    "available": "A",
    "stale": "S",
    "waiting": "w",
    "requested": "r",
    "queued": "q",
    "running": "R",
    "retrying": "t",
    "failed": "F",
    "cancelled": "c",
    "held": "h",
    "unapproved": "u",
    "refused": "x",
    "withdrawn": "W",
}
"""The states of a product, as they are sent."""

_RANKS: Final[Mapping[ProcessingState, int]] = {
    ProcessingState.REQUESTED: 1,
    ProcessingState.QUEUED: 2,
    ProcessingState.RUNNING: 3,
    ProcessingState.SUCCEEDED: 4,
}
"""How far an attempt is. The conductor and the pipeline tell of it, each in its own time: what is
heard of an earlier state after a later one is of the past."""
MAX_ATTEMPTS: Final = 20_000
"""Attempts of which it is known how far they are: those heard of last."""
_IN_PROGRESS: Final = frozenset({ProcessingState.QUEUED, ProcessingState.RUNNING})


class LiveModel:
    """The live state of an orchestra, in a table; its size has a bound.

    Parameters
    ----------
    clock : callable
        Returns seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.table = LiveTable()
        self._clock = clock
        self._observations: OrderedDict[str, list[str]] = OrderedDict()
        """The letters of each observation; the one that was heard of last is the last."""
        self._heard: dict[str, int] = {}
        """Which of all that was heard was the last of each observation."""
        self.heard = 0
        """How much was heard about observations."""
        self._running: OrderedDict[str, str] = OrderedDict()
        """The observation of each processing in progress."""
        self._attempts: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """The number and the rank of the latest attempt, by the processing's id."""
        self._services: OrderedDict[str, None] = OrderedDict()
        self._lines: deque[dict[str, Any]] = deque(maxlen=MAX_LINES)
        self._places: dict[str, int] = {}
        """The place of each input and product among the letters of an observation."""

    def replace_graph(self, graph: Graph, number: int) -> None:
        """Show another graph, of that version; observations are to be loaded again."""
        self._places = _places(graph)
        self.table.set("graph", _shown_graph(graph, number))
        for obs_id in self._observations:
            self.table.remove(f"obs/{obs_id}")
        self._observations.clear()
        self._heard.clear()

    # What is recorded

    def load(self, rows: Sequence[MatrixRow], asked_at: int) -> int:
        """Take over rows of the conductor's ``/matrix``, those that were heard of last first.

        Parameters
        ----------
        asked_at : int
            What `heard` was when the conductor was asked.

        Returns
        -------
        int
            How many observations were left as they are, since more was heard of them meanwhile.
        """
        left = 0
        for row in reversed(rows):
            if self._heard.get(row.obs_id, 0) > asked_at:
                left += 1
                continue
            letters = [MISSING] * len(self._places)
            for product, state in row.states.items():
                self._put(letters, product, state)
            for product in row.stale:
                if row.states.get(product) == "available":
                    self._put(letters, product, "stale")
            self._observations[row.obs_id] = letters
            self._show(row.obs_id)
        self._forget_oldest()
        return left

    # What is heard

    def on_data(self, news: DataEvent) -> None:
        """Record that a product is available, or that none of its versions is any more."""
        letters = self._letters_of(news.obs_id)
        if not isinstance(news, DataWithdrawn):
            self._put(letters, news.product, "available")
            if news.processing_id is not None:
                self._end_attempt(news.processing_id)
        elif news.newest is None:
            self._put(letters, news.product, "withdrawn")
        self._show(news.obs_id, is_news=True)
        self._log(line_of_data(news))

    def on_activity(self, activity: Activity) -> None:
        """Record the status of a service, and what it tells besides."""
        self._on_service(activity.service)
        if activity.processing is not None:
            self._on_processing(activity.service, activity.processing)
        if activity.stale is not None:
            letters = self._letters_of(activity.stale.obs_id)
            self._put(letters, activity.stale.product, "stale")
            self._show(activity.stale.obs_id)
        for line in lines_of_activity(activity):
            self._log(line)

    def note(self, text: str) -> None:
        """Show a line about the dashboard itself, such as what it could not understand."""
        self._log(NewsLine(text, NOTICE))

    def _on_service(self, service: ServiceStatus) -> None:
        before = self.table.get(f"service/{service.name}")
        self._services[service.name] = None
        self._services.move_to_end(service.name)
        if len(self._services) > MAX_SERVICES:
            self.table.remove(f"service/{self._services.popitem(last=False)[0]}")
        value = service.model_dump(mode="json") | {"heard": round(self._clock(), 1)}
        self.table.set(f"service/{service.name}", value)
        if before is not None and before["state"] != service.state:
            self._log(NewsLine(f"{service.name} is {service.state}", service.state))
        if service.notice and (before is None or before["notice"] != service.notice):
            self._log(NewsLine(f"{service.name}: {service.notice}", NOTICE))

    def _end_attempt(self, processing_id: str) -> None:
        """Record that a processing has made what is available."""
        attempt, _ = self._attempts.get(processing_id, (1, 0))
        self._remember(processing_id, (attempt, _RANKS[ProcessingState.SUCCEEDED]))
        self._stop_running(processing_id)

    def _is_past(self, processing: Processing) -> bool:
        """Return whether a later state of its attempt, or a later attempt, was heard of before."""
        rank = _RANKS.get(processing.state)
        if rank is None:
            return False
        told = (processing.attempt, rank)
        if told < self._attempts.get(processing.id, (0, 0)):
            return True
        self._remember(processing.id, told)
        return False

    def _remember(self, processing_id: str, attempt: tuple[int, int]) -> None:
        self._attempts[processing_id] = attempt
        self._attempts.move_to_end(processing_id)
        if len(self._attempts) > MAX_ATTEMPTS:
            self._attempts.popitem(last=False)

    def _on_processing(self, service: ServiceStatus, processing: Processing) -> None:
        if self._is_past(processing):
            return
        if service.kind == "pipeline":
            self._on_progress(service.name, processing)
            state = processing.state
            if state.ended:
                return  # whether it is retried, and what is available, others tell
        else:
            state = processing.state
            if state.ended:
                self._stop_running(processing.id)
        # The conductor says so once the archive has it.
        shown = "available" if state is ProcessingState.SUCCEEDED else state.value
        self._put(self._letters_of(processing.obs_id), processing.product, shown)
        self._show(processing.obs_id)

    def _on_progress(self, provider: str, processing: Processing) -> None:
        if processing.state not in _IN_PROGRESS:
            self._stop_running(processing.id)
            return
        self._running[processing.id] = processing.obs_id
        self._running.move_to_end(processing.id)
        self.table.set(
            f"run/{processing.id}",
            {
                "product": processing.product,
                "obs_id": processing.obs_id,
                "provider": provider,
                "state": processing.state.value,
                "attempt": processing.attempt,
                "done": processing.progress.done,
                "total": processing.progress.total,
                "started": processing.started.timestamp() if processing.started else None,
            },
        )
        if len(self._running) > MAX_RUNNING:
            self._stop_running(next(iter(self._running)))

    def _stop_running(self, processing_id: str) -> None:
        if self._running.pop(processing_id, None) is not None:
            self.table.remove(f"run/{processing_id}")

    # The table

    def _letters_of(self, obs_id: str) -> list[str]:
        letters = self._observations.get(obs_id)
        if letters is None:
            letters = self._observations[obs_id] = [MISSING] * len(self._places)
        self._observations.move_to_end(obs_id)
        self.heard += 1
        self._heard[obs_id] = self.heard
        return letters

    def _put(self, letters: list[str], product: str, state: str) -> None:
        place = self._places.get(product)
        if place is not None:
            letters[place] = LETTERS.get(state, MISSING)

    def _show(self, obs_id: str, *, is_news: bool = False) -> None:
        """Show an observation; with `is_news`, as changed even if each state is what it was."""
        key = f"obs/{obs_id}"
        states = "".join(self._observations[obs_id])
        shown = self.table.get(key)
        if shown is None or shown["s"] != states or is_news:
            self.table.set(key, {"s": states, "t": round(self._clock(), 2)})
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        while len(self._observations) > MAX_OBSERVATIONS:
            oldest, _ = self._observations.popitem(last=False)
            self._heard.pop(oldest, None)
            self.table.remove(f"obs/{oldest}")

    def _log(self, line: NewsLine) -> None:
        text = shortened(line.text, MAX_LINE_LENGTH)
        if self._lines and self._lines[-1]["text"] == text:
            self._lines.pop()  # told again, it takes no second place
        self._lines.append({"t": round(self._clock(), 2), "text": text, "state": line.state})
        self.table.set("lines", list(self._lines))


def _places(graph: Graph) -> dict[str, int]:
    names = (name for level in graph.levels() for name in level)
    return {name: place for place, name in enumerate(names)}


def _shown_graph(graph: Graph, number: int) -> dict[str, Any]:
    layout = lay_out(graph)
    return {
        "number": number,
        "levels": [list(level) for level in graph.levels()],
        "document": graph.as_document(),
        "places": {name: [each.column, each.row] for name, each in layout.places.items()},
        "edges": [
            [
                each.source,
                each.product,
                each.mandatory,
                [[bend.column, bend.row] for bend in each.bends],
            ]
            for each in layout.edges
        ],
    }
