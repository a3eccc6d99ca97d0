"""A service's voice on ``activity.<name>``: its status, and every move of its processings."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from batuta.messaging import Activity, Bus, MessagingError, Processing, ServiceStatus

LOG: Final = logging.getLogger(__name__)

HEARTBEAT_S: Final = 10.0
RETRY_S: Final = 1.0


class ActivityReporter:
    """Publishes a service's activity, losing no state that a processing has reached.

    What has not been published yet is kept, one record per processing and state: while NATS
    is away, the progress of a processing overwrites its last one, and memory stays bounded.

    Parameters
    ----------
    bus : Bus
        The connection.
    status : callable
        Gives the service's status when it is told.
    """

    def __init__(self, bus: Bus, status: Callable[[], ServiceStatus]) -> None:
        self._bus = bus
        self._status = status
        self._waiting: OrderedDict[tuple[str, int, str], Processing] = OrderedDict()
        self._changed = asyncio.Event()

    def report(self, processing: Processing) -> None:
        """Have `processing` told as soon as can be; returns at once."""
        key = (processing.id, processing.attempt, processing.state.value)
        self._waiting[key] = processing
        self._changed.set()

    async def run(self) -> None:
        """Tell what is reported, and a heartbeat every `HEARTBEAT_S`, until cancelled."""
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
                    # First what the last heartbeat interrupted, or NATS' absence held back.
                    await self._publish_waiting()
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError:
            return

    async def _publish_waiting(self) -> None:
        while self._waiting:
            key, processing = next(iter(self._waiting.items()))
            await self._publish(Activity(service=self._status(), processing=processing))
            # Progress may have replaced it meanwhile: then it is still to be told.
            if self._waiting.get(key) is processing:
                del self._waiting[key]

    async def _publish(self, activity: Activity) -> None:
        while True:
            try:
                await self._bus.publish_activity(activity)
            except MessagingError as exc:
                LOG.warning("activity kept until NATS is back: %s", exc)
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
            LOG.warning("could not say on NATS that this service stops: %s", exc)
