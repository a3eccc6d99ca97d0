"""The parts of a conductor, opened and joined with each other."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import sqlalchemy as sa

from batuta.conductor.activity import NAME, ConductorActivity, ServiceRegistry
from batuta.conductor.campaign_runner import CampaignRunner, open_campaigns
from batuta.conductor.clock_watch import ClockWatch
from batuta.conductor.database.claiming.claims import ClaimStore
from batuta.conductor.database.current_graph import CurrentGraph
from batuta.conductor.database.graphs.graph_versions import GraphVersions, open_current_graph
from batuta.conductor.database.ledger import Ledger
from batuta.conductor.database.records import Row
from batuta.conductor.database.requests.circuit_store import InstancesOf
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.schema import MIGRATIONS
from batuta.conductor.database.summaries import join_parts
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
from batuta.conductor.dispatch.archive import Archive, open_archive
from batuta.conductor.dispatch.callbacks import CallbackAddresses, Subscriber
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.conductor.dispatch.providers import Providers, open_providers
from batuta.conductor.graph_changer import GraphChanger
from batuta.conductor.hold_watch import HoldWatch
from batuta.conductor.order_worker import OrderWorker
from batuta.conductor.pruner import Pruner
from batuta.conductor.reconciliation import Reconciler
from batuta.conductor.routes.components import Components
from batuta.conductor.sdb_contents import held_by_sdb, sdb_problem
from batuta.conductor.settings import ConductorSettings
from batuta.conductor.stale_watch import StaleWatch
from batuta.conductor.stop_watch import StopWatch
from batuta.conductor.sweeper import EventSweeper
from batuta.errors import ConfigurationError
from batuta.graph import Graph, read_graph
from batuta.messaging import (
    Bus,
    connect,
)
from batuta.messaging.dead_letters import DeadLetters
from batuta.messaging.stream_bounds import apply_bounds
from batuta.service.client import ServiceError
from batuta.service.database import open_database, write_problem
from batuta.service.health import HealthMonitor
from batuta.service.http_pool import HttpPool, PoolTimeouts, open_pool

LOG: Final = logging.getLogger(__name__)

LOG_TIMEOUTS: Final = PoolTimeouts(connect_s=3.0, read_s=15.0)
"""Of the pipelines, when they are asked for a log."""


@dataclass(frozen=True, slots=True)
class Records:
    """What a conductor records and decides with.

    Attributes
    ----------
    engine : sa.Engine
        Its database, open.
    current : CurrentGraph
        What holds the graph in force.
    at_start : AtStart
        What the start has changed of that.
    instances_of : callable
        Returns the addresses of a provider.
    ledger : Ledger
        Its processings.
    """

    engine: sa.Engine
    current: CurrentGraph
    at_start: AtStart
    instances_of: InstancesOf
    ledger: Ledger

    def url_of(self, provider: str) -> str:
        """Return the first address of a provider, which is the only one of most.

        Raises
        ------
        ServiceError
            If it has none.
        """
        for address in self.instances_of(provider):
            return address
        # A processing claimed under an earlier graph may name a provider that it had.
        raise ServiceError(f"{provider}: the graph no longer has this provider")


@dataclass(frozen=True, slots=True)
class Connections:
    """What connects a conductor with other services.

    Attributes
    ----------
    bus : Bus
        NATS.
    providers : Providers
        The pipelines.
    callback_addresses : CallbackAddresses
        Where these may call back.
    signals : list of Signal
        Filled by `providers`: how their instances have answered.
    archive : Archive
        The sdb.
    logs : HttpPool
        The pipelines, when they are asked for a log.
    """

    bus: Bus
    providers: Providers
    callback_addresses: CallbackAddresses
    signals: list[Signal]
    archive: Archive
    logs: HttpPool


@dataclass(frozen=True, slots=True)
class Parts:
    """All parts of a conductor: what REST calls, and what runs besides."""

    bus: Bus
    components: Components
    activity: ConductorActivity
    health: HealthMonitor
    sweeper: EventSweeper
    watches: tuple[DeadlineWatch, StaleWatch, StopWatch, ClockWatch]


@contextmanager
def open_records(settings: ConductorSettings) -> Iterator[Records]:
    """Open the database of a conductor, and put the graph in force that is to be at its start."""
    file = read_graph(settings.graph)
    with open_database(settings.database_url, MIGRATIONS) as engine:
        join_parts(engine)
        current, at_start = open_current_graph(engine, file, settings.graph.name)
        _tell_graph_at_start(current, at_start, file)
        instances_of = _addresses(current, file, settings)
        ledger = Ledger(
            engine,
            current,
            _wait_config(settings),
            limits=_circuit_limits(settings),
            instances_of=instances_of,
        )
        yield Records(engine, current, at_start, instances_of, ledger)


@asynccontextmanager
async def open_connections(
    records: Records, settings: ConductorSettings, url: str
) -> AsyncIterator[Connections]:
    """Connect with NATS, whose streams are bounded from then on, and with the other services."""
    current, signals = records.current, list[Signal]()
    addresses = CallbackAddresses(settings.public_url or url, records.ledger.callback_secret())

    def subscriber_of(request: DueRequest) -> Subscriber | None:
        known = current.graph.providers.get(request.provider)
        return addresses.subscriber(request) if known and known.callback else None

    token = settings.token_text
    async with (
        connect(settings.nats, NAME) as bus,
        open_providers(records.url_of, token, subscriber_of, signals.append) as providers,
        open_archive(settings.sdb_url, token) as archive,
        open_pool(token, LOG_TIMEOUTS, reuse=False) as logs,
    ):
        bound_streams = partial(apply_bounds, bus, settings.streams.bounds())
        await bound_streams()
        bus.on_reconnected(bound_streams)  # NATS may have lost its streams
        yield Connections(bus, providers, addresses, signals, archive, logs)


def assemble(
    records: Records, connections: Connections, settings: ConductorSettings, url: str
) -> Parts:
    """Return the parts of a conductor that answers at `url`, joined with each other."""
    ledger = records.ledger
    registry = ServiceRegistry()
    ledger.reports_activity = registry.reports_activity
    views = Views(records.engine, records.current, records.url_of)
    activity = ConductorActivity(connections.bus, url, views)
    of_campaigns = asyncio.Event()
    dispatcher = Dispatcher(
        ledger,
        connections.providers,
        connections.archive,
        partial(_publish, activity, of_campaigns),
        connections.signals,
    )
    stop_watch = StopWatch(ledger.stops, connections.providers, dispatcher.write)
    dispatcher.on_stopped = stop_watch.wake
    components = _components(
        records,
        connections,
        settings,
        _Core(registry, views, activity, dispatcher, of_campaigns),
    )
    if records.at_start is AtStart.REPLACED:
        activity.publish_graph(components.graph_changer.versions.latest())
    return Parts(
        bus=connections.bus,
        components=components,
        activity=activity,
        health=_health(records.engine, components.pruner, settings),
        sweeper=EventSweeper(records.engine, settings.events, dispatcher.write),
        watches=(
            DeadlineWatch(
                records.current,
                ledger,
                dispatcher.write,
                activity.publish_late,
                activity.publish,
            ),
            StaleWatch(ledger, dispatcher.write, activity.publish_stale),
            stop_watch,
            ClockWatch(ledger.planned_times, dispatcher.write),
        ),
    )


class _Core(NamedTuple):
    """What most other parts are made with."""

    registry: ServiceRegistry
    views: Views
    activity: ConductorActivity
    dispatcher: Dispatcher
    of_campaigns: asyncio.Event
    """Set when something has happened that may move a campaign."""


def _components(
    records: Records, connections: Connections, settings: ConductorSettings, core: _Core
) -> Components:
    engine, current, ledger = records.engine, records.current, records.ledger
    activity, dispatcher = core.activity, core.dispatcher
    newest = partial(held_by_sdb, settings, newest=True)
    hold_watch = HoldWatch(ledger.holds, dispatcher.write, dispatcher.wake, activity.publish_hold)
    campaigns = CampaignRunner(
        open_campaigns(engine, current, ClaimStore(current)),
        current,
        dispatcher.write,
        dispatcher.wake,
        activity.publish_campaign,
        core.of_campaigns,
    )
    campaigns.settle_holds = hold_watch.settle
    reconciler = Reconciler(engine, current, connections.archive, newest)
    return Components(
        current_graph=current,
        views=core.views,
        dispatcher=dispatcher,
        providers=connections.providers,
        archive=connections.archive,
        reconciler=reconciler,
        registry=core.registry,
        pruner=Pruner(engine, ledger.retention(settings.retention), dispatcher.write),
        callback_addresses=connections.callback_addresses,
        events=EventViews(engine, current, core.views),
        dead_letters=DeadLetters(connections.bus),
        logs=connections.logs,
        late=LateViews(engine),
        graph_changer=GraphChanger(
            engine,
            GraphVersions(engine, current),
            dispatcher,
            reconciler,
            newest,
            activity.publish_graph,
        ),
        holds=HoldViews(engine, ledger.holds),
        hold_watch=hold_watch,
        campaigns=campaigns,
        order_worker=OrderWorker(ledger.order_sets, dispatcher, connections.providers),
        provider_views=ProviderViews(engine, current, records.instances_of),
        stops=ledger.stops,
    )


def _publish(
    activity: ConductorActivity, of_campaigns: asyncio.Event, told: Row | Question | Circuit
) -> None:
    """Publish news, and wake the campaigns that it may be of."""
    activity.publish(told)
    if isinstance(told, Circuit):
        return
    if isinstance(told, Question) or told.campaign is not None:
        of_campaigns.set()


def _health(engine: sa.Engine, pruner: Pruner, settings: ConductorSettings) -> HealthMonitor:
    return HealthMonitor(
        {
            "retention": pruner.problem,
            "database": partial(write_problem, engine, MIGRATIONS),
            "sdb": partial(sdb_problem, settings),
        }
    )


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
