"""Publishes a service's status, and every state of its processings, on ``activity.<name>``."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from batuta.messaging import (
    Activity,
    ApprovalNews,
    Bus,
    CampaignStatus,
    CircuitChange,
    GraphInForce,
    HoldChange,
    LateProduct,
    MessagingError,
    Processing,
    ServiceStatus,
    StaleProduct,
)

LOG: Final = logging.getLogger(__name__)

HEARTBEAT_S: Final = 10.0
RETRY_S: Final = 1.0


Told = (
    Processing
    | LateProduct
    | StaleProduct
    | HoldChange
    | ApprovalNews
    | CampaignStatus
    | GraphInForce
    | CircuitChange
)


_KEYS: Final[dict[type, str]] = {
    Processing: "processing",
    LateProduct: "late",
    StaleProduct: "stale",
    HoldChange: "hold",
    ApprovalNews: "approval",
    CampaignStatus: "campaign",
    GraphInForce: "graph",
    CircuitChange: "circuit",
}


def _key_of(told: Told) -> str:
    """Return where the activity has it; a pipeline's processing is of a class of its own."""
    return _KEYS.get(type(told), "processing")


class ActivityReporter:
    """Publishes a service's activity, losing no state that a processing has reached.

    What has not been published yet is buffered, one record per processing and state: while NATS
    is down, the progress of a processing overwrites its previous one, and memory stays bounded.

    Parameters
    ----------
    bus : Bus
        The connection.
    status : callable
        Returns the service's current status.
    """

    def __init__(self, bus: Bus, status: Callable[[], ServiceStatus]) -> None:
        self._bus = bus
        self._status = status
        self._waiting: OrderedDict[tuple[str, int, str], Told] = OrderedDict()
        self._changed = asyncio.Event()
        self._status_changed = False

    def report(self, processing: Processing) -> None:
        """Publish `processing` as soon as possible; return at once."""
        key = (processing.id, processing.attempt, processing.state.value)
        self._waiting[key] = processing
        self._changed.set()

    def report_late(self, late: LateProduct) -> None:
        """Publish that a product is late as soon as possible; return at once."""
        self._waiting[late.product, 0, late.obs_id] = late
        self._changed.set()

    def report_hold(self, change: HoldChange) -> None:
        """Publish what became of a hold as soon as possible; return at once."""
        self._waiting["hold", change.number, change.state] = change

    def report_campaign(self, campaign: CampaignStatus) -> None:
        """Publish how a campaign is as soon as possible; return at once."""
        self._waiting["campaign", campaign.number, campaign.state] = campaign
        self._changed.set()

    def report_approval(self, news: ApprovalNews) -> None:
        """Publish what waits for approval, or was decided, as soon as possible; return at once."""
        self._waiting[f"{news.product} {news.version} {news.state}", 0, news.obs_id] = news
        self._changed.set()

    def report_graph(self, graph: GraphInForce) -> None:
        """Publish that a graph is in force as soon as possible; return at once."""
        self._waiting["graph", graph.number, ""] = graph
        self._changed.set()

    def report_circuit(self, change: CircuitChange) -> None:
        """Publish that a provider is left alone, or not, as soon as possible; return at once."""
        # In the order in which they happen, though the last may not be published yet.
        key = (f"circuit {change.provider} {change.state} {change.lost}", 0, change.instance)
        self._waiting.pop(key, None)
        self._waiting[key] = change
        self._changed.set()

    def report_stale(self, stale: StaleProduct) -> None:
        """Publish that a product is stale as soon as possible; return at once."""
        self._waiting[stale.product, -1, stale.obs_id] = stale
        self._changed.set()

    def report_status(self) -> None:
        """Publish the status as soon as possible, rather than with the next heartbeat."""
        self._status_changed = True
        self._changed.set()

    async def run(self) -> None:
        """Publish what is reported, and a heartbeat every `HEARTBEAT_S`, until cancelled."""
        try:
            while True:
                await self._publish(Activity(service=self._status()))
                await self._publish_processings_for(HEARTBEAT_S)
        finally:
            await self._publish_stopped()

    async def _publish_processings_for(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while True:
                    # Before waiting: the timeout of the last heartbeat may have interrupted this.
                    await self._publish_waiting()
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError:
            return

    async def _publish_waiting(self) -> None:
        if self._status_changed:
            await self._publish(Activity(service=self._status()))
            self._status_changed = False
        while self._waiting:
            key, told = next(iter(self._waiting.items()))
            values = {"service": self._status(), _key_of(told): told}
            await self._publish(Activity.model_validate(values))
            # Progress may have replaced it during the await: then it has yet to be published.
            # Removed only now: if the heartbeat's timeout cancels the publication, it is repeated.
            if self._waiting.get(key) is told:
                del self._waiting[key]

    async def _publish(self, activity: Activity) -> None:
        while True:
            try:
                await self._bus.publish_activity(activity)
            except MessagingError as exc:
                LOG.warning("could not publish activity, will retry: %s", exc)
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _publish_stopped(self) -> None:
        if not self._bus.connected:
            return
        status = self._status().model_copy(update={"state": "stopped"})
        try:
            await self._bus.publish_activity(Activity(service=status))
        except MessagingError as exc:
            LOG.warning("could not publish that this service stops: %s", exc)
