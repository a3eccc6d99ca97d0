"""The conductor: hears that data have come, and has made what can be made of them (seed 003)."""

import asyncio
import difflib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy.exc import OperationalError

from batuta import __version__
from batuta.conductor.api import Parts, add_routes
from batuta.conductor.dispatcher import Dispatcher
from batuta.conductor.ledger import Ledger, LedgerConfig, News, Row
from batuta.conductor.providers import open_providers
from batuta.conductor.rules import Arrival
from batuta.conductor.schema import MIGRATIONS
from batuta.conductor.settings import ConductorSettings
from batuta.conductor.views import Views
from batuta.errors import ConfigurationError, one_line
from batuta.graph import Graph, read_graph
from batuta.messaging import (
    Activity,
    Bus,
    Consumer,
    ConsumerSpec,
    DataAvailable,
    Delivery,
    MalformedEventError,
    Processing,
    ProcessingState,
    ServiceStatus,
    connect,
    decode_activity,
    decode_data,
    subjects,
)
from batuta.sdb.client import SdbClient
from batuta.service.activity import HEARTBEAT_S, ActivityReporter
from batuta.service.app import AppConfig, create_app
from batuta.service.client import ServiceError
from batuta.service.database import open_database

LOG: Final = logging.getLogger(__name__)

NAME: Final = "conductor"
COUNTED_EVERY_S: Final = 2.0
SDB_WAIT_S: Final = 60.0
"""How long a conductor whose database is new waits for the sdb, in seconds."""
FORGOTTEN_AFTER_S: Final = 3 * HEARTBEAT_S
"""A service that has not been heard for so long is not shown any more."""


@asynccontextmanager
async def open_conductor(settings: ConductorSettings, url: str) -> AsyncIterator["Conductor"]:
    """Open a conductor that answers at `url`."""
    graph = read_graph(settings.graph)
    url_of = _addresses(graph, settings)
    with open_database(settings.database_url, MIGRATIONS) as engine:
        ledger = Ledger(engine, graph, _waits(settings))
        async with (
            connect(settings.nats, NAME) as bus,
            open_providers(url_of, settings.token_text) as providers,
        ):
            if not ledger.rebuilt:
                await _rebuild(ledger, settings)
            voice = Voice(bus, url, Views(engine, graph, url_of))
            ledger.speaks = voice.has_heard
            dispatcher = Dispatcher(ledger, providers, voice.tell)
            yield Conductor(
                Parts(graph, voice.views, dispatcher, providers, voice.services), voice, settings
            )


class Voice:
    """What the conductor says of itself, and what it hears services say of themselves."""

    def __init__(self, bus: Bus, url: str, views: Views) -> None:
        self.bus = bus
        self.views = views
        self.reporter = ActivityReporter(bus, self._status)
        self._url = url
        self._heard: dict[str, tuple[float, ServiceStatus]] = {}
        self._counts: dict[str, int] = {}

    def hear(self, status: ServiceStatus) -> None:
        """Take note of what a service says of itself."""
        self._heard[status.name] = (time.monotonic(), status)

    def has_heard(self, name: str) -> bool:
        """Whether the service `name` was up when last heard, and that was lately."""
        heard, status = self._heard.get(name, (-math.inf, None))
        lately = heard > time.monotonic() - FORGOTTEN_AFTER_S
        return lately and status is not None and status.state == "up"

    def services(self) -> list[ServiceStatus]:
        """The services heard lately, by name."""
        since = time.monotonic() - FORGOTTEN_AFTER_S
        lately = [status for heard, status in list(self._heard.values()) if heard > since]
        return sorted(lately, key=lambda status: status.name)

    def tell(self, row: Row) -> None:
        """Tell a processing that now retries, or has ended other than well.

        Its good end its pipeline has told already.
        """
        if row.state != ProcessingState.SUCCEEDED:
            record = self.views.shown(row)
            self.reporter.report(Processing(**record.model_dump(include=_PROCESSING_KEYS)))

    async def run(self) -> None:
        """Speak, and keep count of what is open, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.reporter.run())
            group.create_task(self._keep_count())

    async def _keep_count(self) -> None:
        while True:
            try:
                self._counts = await asyncio.to_thread(self.views.open_counts)
            except OperationalError as exc:
                LOG.warning("database: %s; counted again later", one_line(exc.orig))
            await asyncio.sleep(COUNTED_EVERY_S)

    def _status(self) -> ServiceStatus:
        counts = self._counts
        return ServiceStatus(
            name=NAME,
            kind="conductor",
            url=self._url,
            version=__version__,
            queued=sum(counts.get(state, 0) for state in _NOT_SENT),
            running=sum(counts.get(state, 0) for state in _SENT),
        )


class Conductor:
    """An open conductor: its REST interface, and the work that it does meanwhile."""

    def __init__(self, parts: Parts, voice: Voice, settings: ConductorSettings) -> None:
        self._parts = parts
        self._voice = voice
        self._dispatcher = parts.dispatcher
        self.notifications = 0
        identity = parts.dispatcher.ledger.identity()[:12]
        self._data = Consumer(voice.bus, self._data_spec(identity))
        self._activity = Consumer(voice.bus, _activity_spec(identity))
        registry = CollectorRegistry()
        registry.register(_Metrics(self, parts))
        config = AppConfig(
            name=NAME,
            description="Hears that data have come, and has made what can be made of them.",
            token=settings.token_text,
            checks=lambda: {"nats": voice.bus.connected},
            registry=registry,
        )
        self.app = create_app(config)
        add_routes(self.app, parts)

    @property
    def malformed(self) -> int:
        """Messages put aside since the start."""
        return self._data.malformed + self._activity.malformed

    async def run(self) -> None:
        """Listen, request and follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._data.run(self._hear_data))
            group.create_task(self._activity.run(self._hear_activity))
            group.create_task(self._dispatcher.run())
            group.create_task(self._voice.run())

    async def _hear_data(self, deliveries: Sequence[Delivery[DataAvailable]]) -> None:
        self.notifications += len(deliveries)
        await self._dispatcher.hear([_arrival(delivery.event) for delivery in deliveries])

    async def _hear_activity(self, deliveries: Sequence[Delivery[Activity]]) -> None:
        for delivery in deliveries:
            self._voice.hear(delivery.event.service)
        news = [
            _news(delivery.event.processing)
            for delivery in deliveries
            if delivery.event.processing is not None and delivery.event.service.kind == "pipeline"
        ]
        if news:
            await self._dispatcher.settle(news)

    def _data_spec(self, identity: str) -> ConsumerSpec[DataAvailable]:
        return ConsumerSpec(
            stream=subjects.DATA_STREAM,
            subject=subjects.DATA_SUBJECTS,
            # A new database hears the stream from its start: so what was lost is found again.
            durable=f"{NAME}_{identity}",
            decode=self._decode,
        )

    def _decode(self, payload: bytes) -> DataAvailable:
        news = decode_data(payload)
        if not self._parts.graph.knows(news.product):
            raise MalformedEventError(_unknown(self._parts.graph, news))
        return news


def _activity_spec(identity: str) -> ConsumerSpec[Activity]:
    return ConsumerSpec(
        stream=subjects.ACTIVITY_STREAM,
        subject=subjects.ACTIVITY_SUBJECTS,
        durable=f"{NAME}_{identity}_activity",
        decode=decode_activity,
        from_start=False,
    )


async def _rebuild(ledger: Ledger, settings: ConductorSettings) -> None:
    """Learn what the sdb holds: this database is new, or the old one was lost.

    The sdb is waited for here, and not by its client: so a Ctrl-C need not wait for it.
    """
    deadline = time.monotonic() + SDB_WAIT_S
    while True:
        try:
            held = await asyncio.to_thread(_held_by_sdb, settings)
        except ServiceError as exc:
            if exc.refused or time.monotonic() > deadline:
                raise
            LOG.warning("%s; retried for up to %g s", exc, SDB_WAIT_S)
            await asyncio.sleep(1)
        else:
            return await asyncio.to_thread(ledger.rebuild, held)


def _held_by_sdb(settings: ConductorSettings) -> list[Arrival]:
    with SdbClient(settings.sdb_url, token=settings.token_text, retry_for_s=0) as sdb:
        return [Arrival(stored.product, stored.obs_id, stored.version) for stored in sdb.list()]


def _waits(settings: ConductorSettings) -> LedgerConfig:
    return LedgerConfig(
        retry_wait_s=settings.retry_wait_s,
        retry_wait_max_s=settings.retry_wait_max_s,
        ask_after_s=settings.ask_after_s,
    )


def _addresses(graph: Graph, settings: ConductorSettings) -> Callable[[str], str]:
    unknown = sorted(settings.provider_urls.keys() - graph.providers.keys())
    if unknown:
        known = ", ".join(sorted(graph.providers))
        raise ConfigurationError(
            f"--provider-url {name}: the graph has no such provider (known: {known})"
            for name in unknown
        )
    given = {name: url.rstrip("/") for name, url in settings.provider_urls.items()}

    def url_of(provider: str) -> str:
        if provider in given:
            return given[provider]
        # A processing claimed under an earlier graph may name a provider that is no more.
        if provider not in graph.providers:
            raise ServiceError(f"{provider}: the graph has no such provider any more")
        return graph.providers[provider].url

    return url_of


def _arrival(news: DataAvailable) -> Arrival:
    return Arrival(news.product, news.obs_id, news.version or 0)


def _news(processing: Processing) -> News:
    started = processing.started
    return News(
        processing_id=processing.id,
        state=processing.state,
        attempt=processing.attempt,
        done=processing.progress.done,
        total=processing.progress.total,
        error=processing.error,
        started=started.timestamp() if started else None,
        profiled=processing.profile is not None,
    )


def _unknown(graph: Graph, news: DataAvailable) -> str:
    names = [*graph.inputs, *graph.products]
    close = difflib.get_close_matches(news.product, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"product {news.product!r} of {news.obs_id}: the graph does not know it{hint}"


class _Metrics:
    """The conductor's state in Prometheus' terms, read when it is asked for."""

    def __init__(self, conductor: Conductor, parts: Parts) -> None:
        self._conductor = conductor
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "batuta_notifications", "Notifications understood", self._conductor.notifications
        )
        yield CounterMetricFamily(
            "batuta_malformed", "Messages put aside", self._conductor.malformed
        )
        yield CounterMetricFamily(
            "batuta_requests", "Requests sent to pipelines", self._parts.dispatcher.requests_sent
        )
        states = GaugeMetricFamily("batuta_processings", "Processings by state", labels=["state"])
        for state, count in self._parts.views.counts().items():
            states.add_metric([state], count)
        yield states


_NOT_SENT: Final = (ProcessingState.WAITING, ProcessingState.RETRYING)
_SENT: Final = (ProcessingState.REQUESTED, ProcessingState.QUEUED, ProcessingState.RUNNING)
_PROCESSING_KEYS: Final = set(Processing.model_fields)
