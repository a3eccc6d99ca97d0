"""The conductor as a service: it receives what becomes available and follows what is made."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry

from batuta.conductor.activity import NAME
from batuta.conductor.assembly import (
    Parts,
    assemble,
    open_connections,
    open_records,
)
from batuta.conductor.database.views.approval_views import ApprovalViews
from batuta.conductor.dispatch.archive import arrival_of, success_of
from batuta.conductor.messages import (
    DataMessage,
    not_archived,
    not_withdrawn,
    speaks_for_itself,
    status_update,
)
from batuta.conductor.reconciliation import mend
from batuta.conductor.routes.api import add_routes
from batuta.conductor.routes.metrics import (
    DROPPED_OBSERVATIONS,
    DROPPED_PROCESSINGS,
    LATE,
    MALFORMED,
    NOTIFICATIONS,
    REQUESTS,
    STALE,
    TO_APPROVE,
    UNSTOPPED,
    ConductorMetrics,
)
from batuta.conductor.sdb_contents import rebuild
from batuta.conductor.settings import ConductorSettings
from batuta.messaging import (
    Activity,
    Consumer,
    ConsumerSpec,
    DataAvailable,
    DataWithdrawn,
    Delivery,
    Notification,
    Rejection,
    decode_activity,
    read_notification,
    subjects,
)
from batuta.service.access_tokens import AccessTokens
from batuta.service.app import AppConfig, create_app
from batuta.service.client import ServiceError
from batuta.service.route_scopes import CONDUCTOR

LOG: Final = logging.getLogger(__name__)

T = TypeVar("T")
U = TypeVar("U")

SDB_SUBJECT: Final = subjects.data_subject(subjects.SDB_SOURCE)
ARCHIVE_RETRY_S: Final = 1.0


@asynccontextmanager
async def open_conductor(settings: ConductorSettings, url: str) -> AsyncIterator["Conductor"]:
    """Open a conductor that answers at `url`."""
    with open_records(settings) as records:
        async with open_connections(records, settings, url) as connections:
            if not records.ledger.rebuilt:
                await rebuild(records.ledger, settings)
            yield Conductor(assemble(records, connections, settings, url), settings)


class Conductor:
    """An open conductor: its REST interface, and the work that it does meanwhile."""

    def __init__(self, parts: Parts, settings: ConductorSettings) -> None:
        components, bus, health = parts.components, parts.bus, parts.health
        self._sweeper, self._watches = parts.sweeper, parts.watches
        self._current_graph = components.current_graph
        self._dispatcher = components.dispatcher
        self._archive = components.archive
        self._reconciler = components.reconciler
        self._registry = components.registry
        self._pruner = components.pruner
        self._hold_watch = components.hold_watch
        self._campaigns = components.campaigns
        self._graph_changer = components.graph_changer
        self._order_worker = components.order_worker
        self._activity = parts.activity
        self._health = health
        self._tokens = AccessTokens(settings.token_text, settings.tokens)
        self.notifications = 0
        identity = components.dispatcher.ledger.identity()[:12]
        self._data_consumer = Consumer(bus, self._data_spec(identity))
        self._activity_consumer = Consumer(bus, _activity_spec(identity))
        metrics = CollectorRegistry()
        metrics.register(
            ConductorMetrics(
                components.views.counts,
                components.holds.all,
                components.campaigns.views.open_campaigns,
                components.provider_views.open,
                {
                    LATE: components.late.count,
                    TO_APPROVE: ApprovalViews(components.events.engine).count,
                    STALE: components.views.stale_count,
                    UNSTOPPED: lambda: len(components.stops.all()),
                },
                {
                    NOTIFICATIONS: lambda: self.notifications,
                    MALFORMED: lambda: self.malformed,
                    REQUESTS: lambda: components.dispatcher.requests_sent,
                    DROPPED_OBSERVATIONS: lambda: components.pruner.observations,
                    DROPPED_PROCESSINGS: lambda: components.pruner.processings,
                },
            )
        )
        config = AppConfig(
            name=NAME,
            description="Has made what can be made of the products that become available.",
            tokens=self._tokens,
            routes=CONDUCTOR,
            checks=lambda: {"nats": bus.health, **health.states},
            registry=metrics,
        )
        self.app = create_app(config)
        add_routes(self.app, components)

    @property
    def malformed(self) -> int:
        """Dead letters since the start."""
        return self._data_consumer.malformed + self._activity_consumer.malformed

    async def run(self) -> None:
        """Receive, request and follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._data_consumer.run(self._on_data))
            group.create_task(self._activity_consumer.run(self._on_activity))
            group.create_task(self._dispatcher.run())
            group.create_task(self._pruner.run())
            group.create_task(self._graph_changer.run())
            group.create_task(self._sweeper.run())
            group.create_task(self._hold_watch.run())
            group.create_task(self._campaigns.run())
            group.create_task(self._order_worker.run())
            for watch in self._watches:
                group.create_task(watch.run())
            group.create_task(self._activity.run())
            group.create_task(self._health.run())
            group.create_task(self._tokens.watch())

    # Messages are acknowledged once these two return, and so once what they say is committed.

    async def _on_data(
        self, deliveries: Sequence[Delivery[Notification]]
    ) -> list[Rejection[Notification]]:
        graph = self._current_graph.graph
        news = [DataMessage(delivery, graph) for delivery in deliveries]
        unread = [each for each in news if each.event is None]
        self.notifications += len(news) - len(unread)
        withdrawals = [each for each in news if isinstance(each.event, DataWithdrawn)]
        arrivals = [each for each in news if isinstance(each.event, DataAvailable)]
        of_sdb = [each for each in arrivals if self._is_of_sdb(each)]
        of_others = [each for each in arrivals if not self._is_of_sdb(each)]
        if of_others or unread:
            # What others announce does not wait for the sdb.
            await self._dispatcher.on_data(
                [each.arrival() for each in of_others],
                [],
                [each.heard() for each in (*of_others, *unread)],
            )
        refused = list(unread)
        refused += await self._on_archived(of_sdb) if of_sdb else []
        # After what is available: the sdb, which is asked of both, knows which holds.
        refused += await self._on_withdrawn(withdrawals) if withdrawals else []
        return [Rejection(each.delivery, each.problem or "") for each in refused]

    async def _on_withdrawn(self, news: Sequence[DataMessage]) -> list[DataMessage]:
        """Stop using what was withdrawn in the sdb; return what others say is."""
        believed = [each for each in news if each.delivery.subject == SDB_SUBJECT]
        found = await self._ask(self._archive.find, [each.told for each in believed])
        for each in news:
            if each.delivery.subject != SDB_SUBJECT:
                each.problem = f"{each.delivery.subject}: only the sdb withdraws, on {SDB_SUBJECT}"
        for each, version in zip(believed, found, strict=True):
            if version is None or version.withdrawn is None:
                each.problem = not_withdrawn(each.told)
        withdrawn = [each for each in found if each is not None and each.withdrawn is not None]
        if withdrawn:
            await mend(self._dispatcher, await self._ask(self._reconciler.withdrawn, withdrawn))
        # After it is done, which may be repeated: killed in between, both are done again.
        ledger = self._dispatcher.ledger
        await self._dispatcher.write(ledger.on_withdrawn, [each.heard() for each in news])
        return [each for each in news if each.problem is not None]

    async def _on_archived(self, of_sdb: Sequence[DataMessage]) -> list[DataMessage]:
        """Record what the sdb holds; return what it does not."""
        found = await self._ask(self._archive.find, [each.told for each in of_sdb])
        # What was withdrawn meanwhile is announced as such next.
        archived = [each for each in found if each is not None and each.withdrawn is None]
        for each, version in zip(of_sdb, found, strict=True):
            if version is None:
                each.problem = not_archived(each.told)
        await self._dispatcher.on_data(
            [
                # When its event says; an import itself has no other time.
                replace(
                    arrival_of(version),
                    event_time=each.delivery.event.time,
                    told_class=each.told_class,
                )
                for each, version in zip(of_sdb, found, strict=True)
                if version is not None and version.withdrawn is None
            ],
            [
                success_of(version)
                for version in archived
                if version.product in self._current_graph.graph.products
            ],
            [each.heard(version) for each, version in zip(of_sdb, found, strict=True)],
        )
        return [each for each in of_sdb if each.problem is not None]

    def _is_of_sdb(self, news: DataMessage) -> bool:
        """Return whether the sdb must hold what is announced: it says so, or the graph makes it."""
        made_here = news.told.product in self._current_graph.graph.products
        return news.delivery.subject == SDB_SUBJECT or made_here

    async def _ask(self, question: Callable[[list[T]], Awaitable[list[U]]], of: list[T]) -> list[U]:
        """Return the sdb's answer, asking again for as long as it does not answer."""
        while True:
            try:
                return await question(of)
            except ServiceError as exc:
                LOG.warning("%s; what it announced waits", exc)
            await asyncio.sleep(ARCHIVE_RETRY_S)

    async def _on_activity(
        self, deliveries: Sequence[Delivery[Activity]]
    ) -> list[Rejection[Activity]]:
        believed = [each for each in deliveries if speaks_for_itself(each)]
        reports = [delivery.event for delivery in believed]
        for report in reports:
            self._registry.record(report.service)
        updates = [
            status_update(report.processing, report.service.name)
            for report in reports
            if report.processing is not None and report.service.kind == "pipeline"
        ]
        if updates:
            await self._dispatcher.apply(updates)
        return [
            Rejection(each, f"{each.event.service.name} reports on {each.subject}: not its own")
            for each in deliveries
            if not speaks_for_itself(each)
        ]

    def _data_spec(self, identity: str) -> ConsumerSpec[Notification]:
        return ConsumerSpec(
            stream=subjects.DATA_STREAM,
            subject=subjects.DATA_SUBJECTS,
            # A new database has a new consumer, which receives the stream from its start: so
            # what was lost with the old one is found again.
            durable=f"{NAME}_{identity}",
            # What cannot be decoded becomes a dead letter as well, once that is recorded.
            decode=read_notification,
        )


def _activity_spec(identity: str) -> ConsumerSpec[Activity]:
    return ConsumerSpec(
        stream=subjects.ACTIVITY_STREAM,
        subject=subjects.ACTIVITY_SUBJECTS,
        durable=f"{NAME}_{identity}_activity",
        decode=decode_activity,
        from_start=False,
    )
