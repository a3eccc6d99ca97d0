"""Every stream, subject and header that Batuta uses on NATS.

Exactly one token follows the dot, so that ``data.*`` and ``activity.*`` match every subject.
"""

from typing import Final

DATA_STREAM: Final = "DATA"
DATA_SUBJECTS: Final = "data.*"
DATA_MAX_MESSAGES: Final = 20_000_000
"""The oldest announcements go beyond that: the sdb holds what they announced."""

ACTIVITY_STREAM: Final = "ACTIVITY"
ACTIVITY_SUBJECTS: Final = "activity.*"
ACTIVITY_MAX_AGE_S: Final = 7 * 86_400
"""Activity is retained for a week, in seconds, or until there is more of it than fits."""
ACTIVITY_MAX_BYTES: Final = 512 * 2**20

DEAD_STREAM: Final = "DEAD"
DEAD_SUBJECTS: Final = "dead.*"
DEAD_MAX_BYTES: Final = 128 * 2**20
"""Dead letters: messages that could not be decoded, on ``dead.<name of their stream>``."""

REASON_HEADER: Final = "Batuta-Reason"
ORIGIN_HEADER: Final = "Batuta-Subject"
SIZE_HEADER: Final = "Batuta-Full-Size"
"""Size of the original message in bytes, where its dead letter is truncated."""

SDB_SOURCE: Final = "sdb"


def data_subject(source: str) -> str:
    """Subject on which `source` announces available products."""
    return f"data.{source}"


def activity_subject(service: str) -> str:
    """Subject on which `service` publishes its status and that of its processings."""
    return f"activity.{service}"


def dead_subject(stream: str) -> str:
    """Subject of the dead letters of `stream`."""
    return f"dead.{stream.lower()}"


def delivery_subject(durable: str) -> str:
    """Subject on which the server delivers messages to the consumer `durable`."""
    return f"batuta.deliver.{durable}"
