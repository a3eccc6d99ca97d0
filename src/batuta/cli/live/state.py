"""The live state of an orchestra, kept up to date by its events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from batuta.cli.live.event_lines import AVAILABLE, REFUSED, UNAPPROVED, WITHDRAWN, EventLines
from batuta.graph import Graph
from batuta.messaging import (
    Activity,
    ApprovalNews,
    DataEvent,
    DataWithdrawn,
    Processing,
    ProcessingState,
    ServiceStatus,
)

__all__ = ["AVAILABLE", "LiveState", "RunningProcessing"]

MAX_OBSERVATIONS: Final = 1000
"""More than any screen shows: those heard of last."""

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
        The state of each product, by observation and name, of the latest `MAX_OBSERVATIONS`.
    running : dict
        The processings in progress, by id.
    on_new_graph : callable
        Called once another graph is in force, which `graph` is to be.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.states: dict[str, dict[str, str]] = {}
        self.running: dict[str, RunningProcessing] = {}
        self.on_new_graph: Callable[[], None] = lambda: None

    def load_observation(self, observation: Mapping[str, Any]) -> None:
        """Load an observation as ``GET /observations/{id}`` of the conductor returns it."""
        states = self._states_of(observation["obs_id"])
        for view in observation["products"]:
            if view["state"] != "missing":
                states[view["product"]] = view["state"]

    def on_data(self, news: DataEvent) -> None:
        """Record that a product is available, or that none of its versions is any more."""
        states = self._states_of(news.obs_id)
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
        if activity.approval is not None:
            self._on_approval(activity.approval)
        if activity.graph is not None:
            self.on_new_graph()

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

    def _states_of(self, obs_id: str) -> dict[str, str]:
        """Return the states of an observation that there is news of; forget the oldest."""
        # Last in the dict, so that the first is the one that was not heard of for longest.
        states = self.states[obs_id] = self.states.pop(obs_id, {})
        while len(self.states) > MAX_OBSERVATIONS:
            del self.states[next(iter(self.states))]
        return states

    def _on_processing(self, service: ServiceStatus, processing: Processing) -> None:
        if service.kind == "pipeline":
            self._update_running(service.name, processing)
        states = self._states_of(processing.obs_id)
        if processing.state is ProcessingState.SUCCEEDED:
            return
        if states.get(processing.product) != AVAILABLE or processing.state.ended:
            states[processing.product] = processing.state.value

    def _on_approval(self, asked: ApprovalNews) -> None:
        states = self._states_of(asked.obs_id)
        if asked.state == "pending":
            states[asked.product] = UNAPPROVED
        elif states.get(asked.product) == UNAPPROVED:
            approved = "waiting" if asked.gate == "before" else AVAILABLE
            states[asked.product] = approved if asked.state == "approved" else REFUSED

    def _update_running(self, provider: str, processing: Processing) -> None:
        if processing.state in _IN_PROGRESS:
            self.running[processing.id] = RunningProcessing(provider, processing)
        else:
            self.running.pop(processing.id, None)
