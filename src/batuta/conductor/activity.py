"""Activity on ``activity.*``: what services report, and what the conductor reports."""

import asyncio
import logging
import math
import time
from typing import Final

from batuta import __version__
from batuta.conductor.database.graphs.graph_versions import GraphVersion
from batuta.conductor.database.records import Row
from batuta.conductor.database.views.campaign_views import Campaign
from batuta.conductor.database.views.observations import Views
from batuta.conductor.database.views.provider_views import circuit_lines
from batuta.conductor.decisions.approvals import Question
from batuta.conductor.decisions.circuits import Circuit
from batuta.conductor.decisions.holds import Hold, HoldState
from batuta.conductor.decisions.processing_record import AT_PROVIDER
from batuta.errors import one_line
from batuta.messaging import (
    ApprovalNews,
    Bus,
    CampaignStatus,
    CircuitChange,
    GraphInForce,
    HoldChange,
    LateProduct,
    Processing,
    ProcessingState,
    ServiceStatus,
    StaleProduct,
)
from batuta.messaging.processings import instant_of
from batuta.service.activity import HEARTBEAT_S, ActivityReporter
from batuta.service.database import UNAVAILABLE

LOG: Final = logging.getLogger(__name__)

NAME: Final = "conductor"

COUNT_INTERVAL_S: Final = 2.0
EXPIRY_S: Final = 3 * HEARTBEAT_S
"""A service that has not reported for so long is no longer listed, in seconds."""
MAX_SERVICES: Final = 1000
"""Services listed at most: anyone on NATS may report under any name."""


class ServiceRegistry:
    """The services that report on ``activity.*``, with their latest status."""

    def __init__(self) -> None:
        self._reports: dict[str, tuple[float, ServiceStatus]] = {}

    def record(self, status: ServiceStatus) -> None:
        """Record the status that a service reports; beyond `MAX_SERVICES` new ones are ignored."""
        now = time.monotonic()
        if status.name not in self._reports and len(self._reports) >= MAX_SERVICES:
            self._reports = {
                name: report for name, report in self._reports.items() if report[0] > now - EXPIRY_S
            }
            if len(self._reports) >= MAX_SERVICES:
                LOG.warning("%s: ignored, %d services report already", status.name, MAX_SERVICES)
                return
        self._reports[status.name] = (now, status)

    def reports_activity(self, name: str) -> bool:
        """Return whether the service `name` was up in its latest report, and that was recent."""
        reported_at, status = self._reports.get(name, (-math.inf, None))
        recent = reported_at > time.monotonic() - EXPIRY_S
        return recent and status is not None and status.state == "up"

    def services(self) -> list[ServiceStatus]:
        """Return the services that reported recently, by name."""
        since = time.monotonic() - EXPIRY_S
        # A copy of the values: requests read it in other threads while reports come in.
        recent = [status for at, status in list(self._reports.values()) if at > since]
        return sorted(recent, key=lambda status: status.name)


class ConductorActivity:
    """Publishes the conductor's status, and what becomes of its processings."""

    def __init__(self, bus: Bus, url: str, views: Views) -> None:
        self._views = views
        self._reporter = ActivityReporter(bus, self._status)
        self._url = url
        self._counts: dict[str, int] = {}

    def publish(self, row: Row | Question | Circuit) -> None:
        """Publish a processing that now retries, or has ended without success, and other news.

        Success has been published already, by its pipeline.
        """
        if isinstance(row, Question):
            self._reporter.report_approval(
                ApprovalNews(
                    product=row.product,
                    obs_id=row.obs_id,
                    gate=row.gate,
                    version=row.version,
                    state=row.state,
                    by=row.by,
                    reason=row.reason,
                )
            )
        elif isinstance(row, Circuit):
            self._publish_circuit(row)
        elif row.state != ProcessingState.SUCCEEDED:
            processing = self._views.processing_of(row)
            self._reporter.report(Processing(**processing.model_dump(include=_PROCESSING_KEYS)))

    def _publish_circuit(self, circuit: Circuit) -> None:
        for line in circuit_lines([circuit] if circuit.open else []):
            LOG.warning("%s", line)
        if not circuit.open:
            LOG.info("provider %s at %s: circuit closed", circuit.provider, circuit.instance)
        self._reporter.report_circuit(
            CircuitChange(
                provider=circuit.provider,
                instance=circuit.instance,
                state="open" if circuit.open else "closed",
                since=None if circuit.since is None else instant_of(circuit.since),
                retry_at=None if circuit.retry_at is None else instant_of(circuit.retry_at),
                reason=circuit.reason,
                lost=circuit.lost is not None,
            )
        )

    def publish_late(self, late: LateProduct) -> None:
        """Publish that a product is late."""
        self._reporter.report_late(late)

    def publish_hold(self, hold: Hold, state: HoldState) -> None:
        """Publish that a hold was placed, has begun, is being released, or has ended."""
        releasing = hold.released is not None
        self._reporter.report_hold(
            HoldChange(
                number=hold.number,
                what=hold.what,
                state=state.value,
                since=instant_of(hold.begins),
                by=(hold.released_by if releasing else None) or hold.by,
                reason=hold.release_reason if releasing else hold.reason,
                rate=hold.rate,
            )
        )

    def publish_campaign(self, campaign: Campaign) -> None:
        """Publish how a campaign is."""
        progress = campaign.progress
        self._reporter.report_campaign(
            CampaignStatus(
                number=campaign.number,
                name=campaign.name,
                state=campaign.state,
                total=progress.total,
                made=progress.made,
                failed=progress.failed,
                skipped=progress.skipped,
                cancelled=progress.cancelled,
                estimated_end=campaign.estimated_end,
            )
        )

    def publish_graph(self, version: GraphVersion) -> None:
        """Publish that a version of the graph is in force."""
        told = GraphInForce(
            number=version.number, digest=version.digest, by=version.by, note=version.note
        )
        self._reporter.report_graph(told)

    def publish_stale(self, stale: StaleProduct) -> None:
        """Publish that a product is stale."""
        self._reporter.report_stale(stale)

    async def run(self) -> None:
        """Publish reports and heartbeats until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reporter.run())
            group.create_task(self._update_counts())

    async def _update_counts(self) -> None:
        while True:
            try:
                self._counts = (await asyncio.to_thread(self._views.counts)).by_state()
            except UNAVAILABLE as exc:
                LOG.warning("database: %s; counted again later", one_line(exc))
            await asyncio.sleep(COUNT_INTERVAL_S)

    def _status(self) -> ServiceStatus:
        counts = self._counts
        return ServiceStatus(
            name=NAME,
            kind="conductor",
            url=self._url,
            version=__version__,
            queued=sum(counts.get(state, 0) for state in _NOT_SENT),
            running=sum(counts.get(state, 0) for state in AT_PROVIDER),
        )


_NOT_SENT: Final = (ProcessingState.WAITING, ProcessingState.RETRYING)
_PROCESSING_KEYS: Final = set(Processing.model_fields)
