"""What is going on in the orchestra, as its events tell it; what a screen shows."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from batuta.graph import Graph
from batuta.messaging import (
    Activity,
    DataAvailable,
    Processing,
    ProcessingState,
    ServiceStatus,
    utc_now,
)

MAX_LINES: Final = 200
AVAILABLE: Final = "available"
_MOVING: Final = (ProcessingState.QUEUED, ProcessingState.RUNNING)


@dataclass(frozen=True)
class Line:
    """Something that happened, worth a line."""

    at: datetime
    text: str
    state: str = ""


@dataclass(frozen=True)
class Running:
    """A processing under way at a provider."""

    provider: str
    processing: Processing


@dataclass
class Scene:
    """The state of the orchestra, kept up to date by its events.

    Parameters
    ----------
    graph : Graph
        The product graph.
    """

    graph: Graph
    states: dict[str, dict[str, str]] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)
    services: dict[str, ServiceStatus] = field(default_factory=dict)
    lines: deque[Line] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    retries: int = 0

    def say(self, text: str, state: str = "") -> None:
        """Add a line."""
        self.lines.append(Line(utc_now(), text, state))

    def learn(self, observation: Mapping[str, Any]) -> None:
        """Take an observation's state as the conductor tells it (``GET /observations/{id}``)."""
        states = self.states.setdefault(observation["obs_id"], {})
        for view in observation["products"]:
            if view["state"] != "missing":
                states[view["product"]] = view["state"]

    def hear_data(self, news: DataAvailable) -> None:
        """Take note that a product is available."""
        self.states.setdefault(news.obs_id, {})[news.product] = AVAILABLE
        version = f" v{news.version}" if news.version else ""
        maker = f" by {news.provider}" if news.provider else ""
        self.say(f"{news.obs_id}: {news.product}{version} archived{maker}", AVAILABLE)

    def hear_activity(self, activity: Activity) -> None:
        """Take note of a service's state, and of the processing that moved, if one did."""
        self.services[activity.service.name] = activity.service
        if activity.processing is not None:
            self._hear_processing(activity.service, activity.processing)

    def expected(self, obs_id: str) -> frozenset[str]:
        """All that the graph can make, in the end, of what has arrived for `obs_id`."""
        arrived = [name for name in self.states.get(obs_id, {}) if name in self.graph.inputs]
        return self.graph.reachable(arrived)

    def made(self, obs_id: str) -> int:
        """How many products of `obs_id` are available, inputs left out."""
        states = self.states.get(obs_id, {})
        return sum(
            1
            for name, state in states.items()
            if state == AVAILABLE and name in self.graph.products
        )

    def _hear_processing(self, service: ServiceStatus, processing: Processing) -> None:
        if service.kind == "pipeline":
            self._follow(service.name, processing)
        states = self.states.setdefault(processing.obs_id, {})
        if processing.state is ProcessingState.SUCCEEDED:
            return
        changed = states.get(processing.product) != processing.state
        if states.get(processing.product) != AVAILABLE or processing.state.ended:
            states[processing.product] = processing.state.value
        if changed and processing.error and service.kind == "conductor":
            self._say_trouble(processing)

    def _follow(self, provider: str, processing: Processing) -> None:
        if processing.state in _MOVING:
            self.running[processing.id] = Running(provider, processing)
        else:
            self.running.pop(processing.id, None)

    def _say_trouble(self, processing: Processing) -> None:
        retrying = processing.state is ProcessingState.RETRYING
        self.retries += retrying
        outcome = "to be tried again" if retrying else processing.state.value
        self.say(
            f"{processing.obs_id}: {processing.product} attempt {processing.attempt} failed, "
            f"{outcome}: {processing.error}",
            processing.state.value,
        )
