"""Events on NATS: ``data.*`` announces available products, ``activity.*`` what services do."""

from typing import TYPE_CHECKING

from batuta.lazy_exports import lazy_exports
from batuta.messaging.config import NatsConfig
from batuta.messaging.events import (
    Activity,
    ApprovalNews,
    CampaignStatus,
    CircuitChange,
    CloudEvent,
    DataAvailable,
    DataEvent,
    DataWithdrawn,
    GraphInForce,
    HoldChange,
    LateProduct,
    MalformedEventError,
    Notification,
    ServiceStatus,
    StaleProduct,
    decode_activity,
    decode_data,
    read_notification,
)
from batuta.messaging.processings import Processing, ProcessingState, Progress, utc_now

if TYPE_CHECKING:
    from batuta.messaging.bus import Bus, MessagingError, connect
    from batuta.messaging.consumer import Consumer, ConsumerSpec, Delivery, Rejection

__all__ = [
    "Activity",
    "ApprovalNews",
    "Bus",
    "CampaignStatus",
    "CircuitChange",
    "CloudEvent",
    "Consumer",
    "ConsumerSpec",
    "DataAvailable",
    "DataEvent",
    "DataWithdrawn",
    "Delivery",
    "GraphInForce",
    "HoldChange",
    "LateProduct",
    "MalformedEventError",
    "MessagingError",
    "NatsConfig",
    "Notification",
    "Processing",
    "ProcessingState",
    "Progress",
    "Rejection",
    "ServiceStatus",
    "StaleProduct",
    "connect",
    "decode_activity",
    "decode_data",
    "read_notification",
    "utc_now",
]

# These load the client of NATS, which settings and commands do without.
__getattr__ = lazy_exports(
    __name__,
    {
        **dict.fromkeys(("Bus", "MessagingError", "connect"), "batuta.messaging.bus"),
        **dict.fromkeys(
            ("Consumer", "ConsumerSpec", "Delivery", "Rejection"), "batuta.messaging.consumer"
        ),
    },
)
