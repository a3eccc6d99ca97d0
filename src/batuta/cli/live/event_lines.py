"""What happens in an orchestra, a line for each event that a person wants to know of."""

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from batuta.messaging import Activity, DataEvent, ProcessingState, ServiceStatus, utc_now
from batuta.messaging.news_lines import (
    AVAILABLE,
    NOTICE,
    WITHDRAWN,
    NewsLine,
    line_of_data,
    lines_of_activity,
)

__all__ = ["AVAILABLE", "REFUSED", "UNAPPROVED", "WITHDRAWN", "EventLines", "LogLine"]

MAX_LINES: Final = 200
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
        self._log(line_of_data(news))

    def on_activity(self, activity: Activity) -> None:
        """Record the status of a service, and what it reports besides."""
        service = activity.service
        before = self.services.get(service.name)
        self.services[service.name] = service
        if service.notice and (before is None or before.notice != service.notice):
            self.log(f"{service.name}: {service.notice}", NOTICE)
        for line in lines_of_activity(activity):
            self._log(line)
            self.retries += line.state == ProcessingState.RETRYING.value

    def _log(self, line: NewsLine) -> None:
        self.log(line.text, line.state)
