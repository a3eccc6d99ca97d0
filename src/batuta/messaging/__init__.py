"""Events on NATS: ``data.*`` announces available products, ``activity.*`` what services do."""

from batuta.messaging.bus import Bus, MessagingError, connect
from batuta.messaging.consumer import Consumer, ConsumerSpec, Delivery, Rejection
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
from batuta.messaging.tls_client import NatsConfig

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
