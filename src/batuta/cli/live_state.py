"""The live state of an orchestra, kept up to date by its events."""

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
_IN_PROGRESS: Final = (ProcessingState.QUEUED, ProcessingState.RUNNING)


@dataclass(frozen=True)
class LogLine:
    """An event to display, as a line of text."""

    at: datetime
    text: str
    state: str = ""


@dataclass(frozen=True)
class RunningProcessing:
    """A processing in progress at a provider."""

    provider: str
    processing: Processing


@dataclass
class LiveState:
    """The state of the orchestra, kept up to date by its events.

    Parameters
    ----------
    graph : Graph
        The product graph.
    """

    graph: Graph
    states: dict[str, dict[str, str]] = field(default_factory=dict)
    running: dict[str, RunningProcessing] = field(default_factory=dict)
    services: dict[str, ServiceStatus] = field(default_factory=dict)
    lines: deque[LogLine] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    retries: int = 0

    def log(self, text: str, state: str = "") -> None:
        """Append a line to the log."""
        self.lines.append(LogLine(utc_now(), text, state))

    def load_observation(self, observation: Mapping[str, Any]) -> None:
        """Load an observation as ``GET /observations/{id}`` of the conductor returns it."""
        states = self.states.setdefault(observation["obs_id"], {})
        for view in observation["products"]:
            if view["state"] != "missing":
                states[view["product"]] = view["state"]

    def on_data(self, news: DataAvailable) -> None:
        """Record that a product is available."""
        self.states.setdefault(news.obs_id, {})[news.product] = AVAILABLE
        version = f" v{news.version}" if news.version else ""
        maker = f" by {news.provider}" if news.provider else ""
        self.log(f"{news.obs_id}: {news.product}{version} archived{maker}", AVAILABLE)

    def on_activity(self, activity: Activity) -> None:
        """Record the status of a service, and the processing that it reports, if any."""
        before = self.services.get(activity.service.name)
        self.services[activity.service.name] = activity.service
        notice = activity.service.notice
        if notice and (before is None or before.notice != notice):
            self.log(f"{activity.service.name}: {notice}", "notice")
        if activity.processing is not None:
            self._on_processing(activity.service, activity.processing)

    def expected(self, obs_id: str) -> frozenset[str]:
        """Return all products that the graph can make from what has arrived for `obs_id`."""
        arrived = [name for name in self.states.get(obs_id, {}) if name in self.graph.inputs]
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
        # Only the conductor knows whether it was the last attempt.
        if service.kind == "conductor" and processing.error:
            self._log_end(processing)

    def _update_running(self, provider: str, processing: Processing) -> None:
        if processing.state in _IN_PROGRESS:
            self.running[processing.id] = RunningProcessing(provider, processing)
        else:
            self.running.pop(processing.id, None)

    def _log_end(self, processing: Processing) -> None:
        if processing.state is ProcessingState.CANCELLED:
            what = f"{processing.obs_id}: {processing.product} cancelled: {processing.error}"
            self.log(what, processing.state.value)
            return
        retrying = processing.state is ProcessingState.RETRYING
        self.retries += retrying
        outcome = "to be retried" if retrying else "the last"
        self.log(
            f"{processing.obs_id}: {processing.product} failed (attempt {processing.attempt}, "
            f"{outcome}): {processing.error}",
            processing.state.value,
        )
