"""Every name that Batuta uses on NATS, in one place (seed 003).

One token follows the dot, so that ``data.*`` and ``activity.*`` hear all.
"""

from typing import Final

DATA_STREAM: Final = "DATA"
DATA_SUBJECTS: Final = "data.*"

ACTIVITY_STREAM: Final = "ACTIVITY"
ACTIVITY_SUBJECTS: Final = "activity.*"
ACTIVITY_MAX_AGE_S: Final = 7 * 86_400
"""What services said is kept a week; what data arrived is kept for good."""

DEAD_STREAM: Final = "DEAD"
DEAD_SUBJECTS: Final = "dead.*"
"""Messages that could not be understood, under ``dead.<name of their stream>``."""

REASON_HEADER: Final = "Batuta-Reason"
ORIGIN_HEADER: Final = "Batuta-Subject"
SIZE_HEADER: Final = "Batuta-Full-Size"
"""How many bytes the message had, where it is put aside cut."""

SDB_SOURCE: Final = "sdb"


def data_subject(source: str) -> str:
    """Subject on which `source` announces that data are available."""
    return f"data.{source}"


def activity_subject(service: str) -> str:
    """Subject on which `service` tells its state and its processings'."""
    return f"activity.{service}"


def dead_subject(stream: str) -> str:
    """Subject under which the messages of `stream` that nobody understands are put aside."""
    return f"dead.{stream.lower()}"


def delivery_subject(durable: str) -> str:
    """Subject on which the server delivers to the consumer `durable`."""
    return f"batuta.deliver.{durable}"
