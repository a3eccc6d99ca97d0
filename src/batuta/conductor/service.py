"""The conductor as a service: it receives what becomes available and follows what is made."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry

from batuta.conductor.activity import NAME, ConductorActivity, ServiceRegistry
from batuta.conductor.campaign_runner import CampaignRunner, open_campaigns
from batuta.conductor.database.claiming.claims import ClaimStore
from batuta.conductor.database.current_graph import CurrentGraph
from batuta.conductor.database.graphs.graph_versions import GraphVersions, open_current_graph
from batuta.conductor.database.ledger import Ledger
from batuta.conductor.database.records import Row
from batuta.conductor.database.requests.circuit_store import InstancesOf
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.schema import MIGRATIONS
from batuta.conductor.database.summaries import join_parts
from batuta.conductor.database.views.approval_views import ApprovalViews
from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.hold_views import HoldViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.observations import Views
from batuta.conductor.database.views.provider_views import ProviderViews
from batuta.conductor.deadline_watch import DeadlineWatch
from batuta.conductor.decisions.approvals import Question
from batuta.conductor.decisions.circuits import Circuit, CircuitLimits, Signal
from batuta.conductor.decisions.graph_versions import AtStart
from batuta.conductor.decisions.processing_record import WaitConfig
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.dispatch.archive import arrival_of, open_archive, success_of
from batuta.conductor.dispatch.callbacks import PREFIX, CallbackAddresses, Subscriber
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.conductor.dispatch.providers import open_providers
from batuta.conductor.graph_changer import GraphChanger
from batuta.conductor.hold_watch import HoldWatch
from batuta.conductor.messages import (
    DataMessage,
    not_archived,
    not_withdrawn,
    speaks_for_itself,
    status_update,
)
from batuta.conductor.order_worker import OrderWorker
from batuta.conductor.pruner import Pruner
from batuta.conductor.reconciliation import Reconciler, mend
from batuta.conductor.routes.api import add_routes
from batuta.conductor.routes.components import Components
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
from batuta.conductor.settings import ConductorSettings
from batuta.conductor.stale_watch import StaleWatch
from batuta.conductor.stop_watch import StopWatch
from batuta.conductor.sweeper import EventSweeper
from batuta.errors import ConfigurationError, one_line
from batuta.graph import Graph, read_graph
from batuta.messaging import (
    Activity,
    Bus,
    Consumer,
    ConsumerSpec,
    DataAvailable,
    DataWithdrawn,
    Delivery,
    Notification,
    Rejection,
    connect,
    decode_activity,
    read_notification,
    subjects,
)
from batuta.messaging.dead_letters import DeadLetters
from batuta.messaging.stream_bounds import apply_bounds
from batuta.sdb.client import SdbClient
from batuta.sdb.records import StoredProduct
from batuta.service.app import AppConfig, create_app
from batuta.service.client import ServiceError
from batuta.service.database import open_database, write_problem
from batuta.service.health import HealthMonitor
from batuta.service.http_pool import PoolTimeouts, open_pool
from batuta.service.operator_tokens import read_operator_tokens
from batuta.stages import rank_of

LOG: Final = logging.getLogger(__name__)

T = TypeVar("T")
U = TypeVar("U")

SDB_SUBJECT: Final = subjects.data_subject(subjects.SDB_SOURCE)
ARCHIVE_RETRY_S: Final = 1.0
LOG_TIMEOUTS: Final = PoolTimeouts(connect_s=3.0, read_s=15.0)
"""Of the pipelines, when they are asked for a log."""
SDB_WAIT_S: Final = 60.0
"""How long a conductor whose database is new waits for the sdb, in seconds."""


@asynccontextmanager
async def open_conductor(settings: ConductorSettings, url: str) -> AsyncIterator["Conductor"]:
    """Open a conductor that answers at `url`."""
    file = read_graph(settings.graph)
    with open_database(settings.database_url, MIGRATIONS) as engine:
        join_parts(engine)
        current, at_start = open_current_graph(engine, file, str(settings.graph))
        _tell_graph_at_start(current, at_start, file)
        instances_of = _addresses(current, file, settings)
        url_of = partial(_first_address, instances_of)
        ledger = Ledger(
            engine,
            current,
            _wait_config(settings),
            limits=_circuit_limits(settings),
            instances_of=instances_of,
        )
        signals: list[Signal] = []
        addresses = CallbackAddresses(settings.public_url or url, ledger.callback_secret())

        def subscriber_of(request: DueRequest) -> Subscriber | None:
            known = current.graph.providers.get(request.provider)
            return addresses.subscriber(request) if known and known.callback else None

        async with (
            connect(settings.nats, NAME) as bus,
            open_providers(url_of, settings.token_text, subscriber_of, signals.append) as providers,
            open_archive(settings.sdb_url, settings.token_text) as archive,
            open_pool(settings.token_text, LOG_TIMEOUTS, reuse=False) as logs,
        ):
            bound_streams = partial(apply_bounds, bus, settings.streams.bounds())
            await bound_streams()
            bus.on_reconnected(bound_streams)  # NATS may have lost its streams
            if not ledger.rebuilt:
                await _rebuild(ledger, settings)
            registry = ServiceRegistry()
            ledger.reports_activity = registry.reports_activity
            views = Views(engine, current, url_of)
            activity = ConductorActivity(bus, url, views)
            of_campaigns = asyncio.Event()

            def on_report(told: Row | Question | Circuit) -> None:
                activity.publish(told)
                if isinstance(told, Circuit):
                    return
                if isinstance(told, Question) or told.campaign is not None:
                    of_campaigns.set()

            dispatcher = Dispatcher(ledger, providers, archive, on_report, signals)
            campaigns = CampaignRunner(
                open_campaigns(engine, current, ClaimStore(current)),
                current,
                dispatcher.write,
                dispatcher.wake,
                activity.publish_campaign,
                of_campaigns,
            )
            hold_watch = HoldWatch(
                ledger.holds, dispatcher.write, dispatcher.wake, activity.publish_hold
            )
            campaigns.settle_holds = hold_watch.settle
            reconciler = Reconciler(
                engine, current, archive, partial(_held_by_sdb, settings, newest=True)
            )
            pruner = Pruner(engine, ledger.retention(settings.retention), dispatcher.write)
            health = HealthMonitor(
                {
                    "retention": pruner.problem,
                    "database": partial(write_problem, engine, MIGRATIONS),
                    "sdb": partial(_sdb_problem, settings),
                }
            )
            sweeper = EventSweeper(engine, settings.events, dispatcher.write)
            changer = GraphChanger(
                engine,
                GraphVersions(engine, current),
                dispatcher,
                reconciler,
                partial(_held_by_sdb, settings, newest=True),
                activity.publish_graph,
            )
            if at_start is AtStart.REPLACED:
                activity.publish_graph(changer.versions.latest())
            components = Components(
                current,
                views,
                dispatcher,
                providers,
                archive,
                reconciler,
                registry,
                pruner,
                addresses,
                EventViews(engine, current, views),
                DeadLetters(bus),
                logs,
                LateViews(engine),
                changer,
                HoldViews(engine, ledger.holds),
                hold_watch,
                campaigns,
                OrderWorker(ledger.order_sets, dispatcher, providers),
                ProviderViews(engine, current, instances_of),
                ledger.stops,
            )
            watch = DeadlineWatch(
                current, ledger, dispatcher.write, activity.publish_late, activity.publish
            )
            stale = StaleWatch(ledger, dispatcher.write, activity.publish_stale)
            stop_watch = StopWatch(ledger.stops, providers, dispatcher.write)
            dispatcher.on_stopped = stop_watch.wake
            watches = (watch, stale, stop_watch)
            yield Conductor(components, bus, activity, (health, sweeper, watches), settings)


class Conductor:
    """An open conductor: its REST interface, and the work that it does meanwhile."""

    def __init__(
        self,
        components: Components,
        bus: Bus,
        activity: ConductorActivity,
        background: tuple[HealthMonitor, EventSweeper, tuple[DeadlineWatch, StaleWatch, StopWatch]],
        settings: ConductorSettings,
    ) -> None:
        health, self._sweeper, self._watches = background
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
        self._activity = activity
        self._health = health
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
            token=settings.token_text,
            checks=lambda: {"nats": bus.health, **health.states},
            registry=metrics,
            open_prefixes=(PREFIX,),
            operator_tokens=read_operator_tokens(settings.operator_tokens),
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


async def _rebuild(ledger: Ledger, settings: ConductorSettings) -> None:
    """Record what the sdb holds: this database is new, or the old one was lost.

    The wait for the sdb is here, and not in its client, so that Ctrl-C ends it at once.
    """
    deadline = time.monotonic() + SDB_WAIT_S
    while True:
        try:
            # Page by page: what the sdb holds may be more than memory.
            arrivals = map(_stored_arrival, _held_by_sdb(settings))
            return await asyncio.to_thread(ledger.rebuild, arrivals)
        except ServiceError as exc:
            if exc.refused or time.monotonic() > deadline:
                raise
            LOG.warning("%s; retried for up to %g s", exc, SDB_WAIT_S)
            await asyncio.sleep(1)


def _held_by_sdb(
    settings: ConductorSettings, product: str | None = None, *, newest: bool = False
) -> Iterator[StoredProduct]:
    with SdbClient(settings.sdb_url, token=settings.token_text, retry_for_s=0) as sdb:
        yield from sdb.list(product, latest=newest)


def _sdb_problem(settings: ConductorSettings) -> str | None:
    """Ask the sdb for a product that it need not have; return why it cannot be asked."""
    try:
        with SdbClient(settings.sdb_url, token=settings.token_text, retry_for_s=0) as sdb:
            sdb.get("health", "check")
    except ServiceError as exc:
        if exc.status != HTTPStatus.NOT_FOUND:
            return f"{one_line(exc)}; nothing that is made can be confirmed"
    return None


def _wait_config(settings: ConductorSettings) -> WaitConfig:
    return WaitConfig(
        retry_wait_s=settings.retry_wait_s,
        retry_wait_max_s=settings.retry_wait_max_s,
        ask_after_s=settings.ask_after_s,
    )


def _circuit_limits(settings: ConductorSettings) -> CircuitLimits:
    return CircuitLimits(
        unanswered=settings.circuit_unanswered,
        failed=settings.circuit_failed,
        first_wait_s=settings.retry_wait_s,
        max_wait_s=settings.retry_wait_max_s,
    )


def _tell_graph_at_start(current: CurrentGraph, at_start: AtStart, file: Graph) -> None:
    if at_start is AtStart.REPLACED:
        LOG.warning(
            "the graph file was changed since the last start: it is now version %d of the graph, "
            "in force in the place of version %d",
            current.number,
            current.number - 1,
        )
    elif current.graph.digest != file.digest:
        LOG.warning(
            "version %d of the graph, which was applied, stays in force; the graph file, which was "
            "not changed since the last start, differs from it",
            current.number,
        )


def _addresses(current: CurrentGraph, file: Graph, settings: ConductorSettings) -> InstancesOf:
    # One that was put in force in its place may lack a provider of the file, or have another.
    providers = file.providers.keys() | current.graph.providers.keys()
    unknown = sorted(settings.provider_urls.keys() - providers)
    if unknown:
        known = ", ".join(sorted(providers))
        raise ConfigurationError(
            f"--provider-url {name}: the graph has no such provider (known: {known})"
            for name in unknown
        )
    overrides = {name: (url.rstrip("/"),) for name, url in settings.provider_urls.items()}

    def instances_of(provider: str) -> tuple[str, ...]:
        if provider in overrides:
            return overrides[provider]
        return current.urls_of(provider)

    return instances_of


def _first_address(instances_of: InstancesOf, provider: str) -> str:
    """Return the first address of a provider, which is the only one of most."""
    for address in instances_of(provider):
        return address
    # A processing claimed under an earlier graph may name a provider that it had.
    raise ServiceError(f"{provider}: the graph no longer has this provider")


def _stored_arrival(stored: StoredProduct) -> Arrival:
    return Arrival(
        stored.product,
        stored.obs_id,
        stored.version,
        archived=True,
        stage=None if stored.stage is None else rank_of(stored.stage),
        made_by=stored.processing_id,
        sha256=stored.sha256,
    )
