"""What happens in an orchestra, a line for each event that a person wants to know of."""

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from batuta.messaging import (
    Activity,
    ApprovalNews,
    DataEvent,
    DataWithdrawn,
    GraphInForce,
    HoldChange,
    Processing,
    ProcessingState,
    ServiceStatus,
    utc_now,
)

MAX_LINES: Final = 200
AVAILABLE: Final = "available"
WITHDRAWN: Final = "withdrawn"
UNAPPROVED: Final = ProcessingState.UNAPPROVED.value
REFUSED: Final = "refused"


@dataclass(frozen=True)
class LogLine:
    """An event to display, as a line of text."""

    at: datetime
    text: str
    state: str = ""


class EventLines:
    """The latest lines, made of events as they are published.

    Its size does not grow with what was processed.

    Attributes
    ----------
    lines : deque of LogLine
        The latest `MAX_LINES`.
    services : dict
        The latest status of each service, by name.
    retries : int
        Attempts that failed and are retried.
    """

    def __init__(self) -> None:
        self.lines: deque[LogLine] = deque(maxlen=MAX_LINES)
        self.services: dict[str, ServiceStatus] = {}
        self.retries = 0

    def log(self, text: str, state: str = "") -> None:
        """Append a line."""
        self.lines.append(LogLine(utc_now(), text, state))

    def on_data(self, news: DataEvent) -> None:
        """Record that a product is available, or was withdrawn."""
        if isinstance(news, DataWithdrawn):
            reason = f": {news.reason}" if news.reason else ""
            self.log(f"{news.obs_id}: {news.product} v{news.version} withdrawn{reason}", WITHDRAWN)
            return
        version = f" v{news.version}" if news.version else ""
        maker = f" by {news.provider}" if news.provider else ""
        self.log(f"{news.obs_id}: {news.product}{version} archived{maker}", AVAILABLE)

    def on_activity(self, activity: Activity) -> None:
        """Record the status of a service, and the processing that it reports, if any."""
        service = activity.service
        before = self.services.get(service.name)
        self.services[service.name] = service
        if service.notice and (before is None or before.notice != service.notice):
            self.log(f"{service.name}: {service.notice}", "notice")
        if activity.hold is not None:
            self._log_hold(activity.hold)
        if activity.stale is not None:
            told = activity.stale
            self.log(f"{told.obs_id}: {told.product} is stale: {told.because}", "stale")
        if activity.graph is not None:
            self._log_graph(activity.graph)
        if activity.approval is not None:
            self._log_approval(activity.approval)
        processing = activity.processing
        # Only the conductor knows whether it was the last attempt.
        if processing is not None and service.kind == "conductor" and processing.error:
            self._log_end(processing, processing.error)

    def _log_hold(self, hold: HoldChange) -> None:
        rate = f" at {hold.rate}" if hold.state == "releasing" and hold.rate else ""
        reason = f": {hold.reason}" if hold.reason else ""
        text = f"hold {hold.number} of {hold.what} {hold.state}{rate}, by {hold.by}{reason}"
        self.log(text, "held")

    def _log_graph(self, graph: GraphInForce) -> None:
        note = f": {graph.note}" if graph.note else ""
        self.log(f"version {graph.number} of the graph is in force, by {graph.by}{note}", "notice")

    def _log_approval(self, asked: ApprovalNews) -> None:
        what = f"{asked.obs_id}: {asked.product} ({asked.version})"
        if asked.state == "pending":
            self.log(f"{what} waits for approval", UNAPPROVED)
            return
        by = f" by {asked.by}" if asked.by else ""
        reason = f": {asked.reason}" if asked.reason else ""
        self.log(f"{what} {asked.state}{by}{reason}", "notice")

    def _log_end(self, processing: Processing, error: str) -> None:
        what = f"{processing.obs_id}: {processing.product}"
        if processing.state is ProcessingState.CANCELLED:
            self.log(f"{what} cancelled: {error}", processing.state.value)
            return
        retrying = processing.state is ProcessingState.RETRYING
        self.retries += retrying
        attempt = f"attempt {processing.attempt}, {'to be retried' if retrying else 'the last'}"
        self.log(f"{what} failed ({attempt}): {error}", processing.state.value)
