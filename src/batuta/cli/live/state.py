"""The live state of an orchestra, kept up to date by its events."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from batuta.cli.live.event_lines import AVAILABLE, WITHDRAWN, EventLines
from batuta.graph import Graph
from batuta.messaging import (
    Activity,
    DataEvent,
    DataWithdrawn,
    Processing,
    ProcessingState,
    ServiceStatus,
)

__all__ = ["AVAILABLE", "LiveState", "RunningProcessing"]

_IN_PROGRESS: Final = (ProcessingState.QUEUED, ProcessingState.RUNNING)


@dataclass(frozen=True)
class RunningProcessing:
    """A processing in progress at a provider."""

    provider: str
    processing: Processing


class LiveState(EventLines):
    """The state of the orchestra, kept up to date by its events.

    Parameters
    ----------
    graph : Graph
        The product graph.

    Attributes
    ----------
    states : dict
        The state of each product, by observation and name.
    running : dict
        The processings in progress, by id.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.states: dict[str, dict[str, str]] = {}
        self.running: dict[str, RunningProcessing] = {}

    def load_observation(self, observation: Mapping[str, Any]) -> None:
        """Load an observation as ``GET /observations/{id}`` of the conductor returns it."""
        states = self.states.setdefault(observation["obs_id"], {})
        for view in observation["products"]:
            if view["state"] != "missing":
                states[view["product"]] = view["state"]

    def on_data(self, news: DataEvent) -> None:
        """Record that a product is available, or that none of its versions is any more."""
        states = self.states.setdefault(news.obs_id, {})
        if not isinstance(news, DataWithdrawn):
            states[news.product] = AVAILABLE
        elif news.newest is None and states.get(news.product) == AVAILABLE:
            states[news.product] = WITHDRAWN
        super().on_data(news)

    def on_activity(self, activity: Activity) -> None:
        """Record the status of a service, and the processing that it reports, if any."""
        super().on_activity(activity)
        if activity.processing is not None:
            self._on_processing(activity.service, activity.processing)

    def expected(self, obs_id: str) -> frozenset[str]:
        """Return all products that the graph can make from what has arrived for `obs_id`."""
        arrived = [
            name
            for name, state in self.states.get(obs_id, {}).items()
            if name in self.graph.inputs and state != WITHDRAWN
        ]
        return self.graph.reachable(arrived)

    def made(self, obs_id: str) -> int:
        """Return how many products of `obs_id` are available, not counting inputs."""
        states = self.states.get(obs_id, {})
        return sum(
            1
            for name, state in states.items()
            if state == AVAILABLE and name in self.graph.products
        )

    def _on_processing(self, service: ServiceStatus, processing: Processing) -> None:
        if service.kind == "pipeline":
            self._update_running(service.name, processing)
        states = self.states.setdefault(processing.obs_id, {})
        if processing.state is ProcessingState.SUCCEEDED:
            return
        if states.get(processing.product) != AVAILABLE or processing.state.ended:
            states[processing.product] = processing.state.value

    def _update_running(self, provider: str, processing: Processing) -> None:
        if processing.state in _IN_PROGRESS:
            self.running[processing.id] = RunningProcessing(provider, processing)
        else:
            self.running.pop(processing.id, None)
