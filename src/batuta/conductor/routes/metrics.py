"""Metrics of the conductor, read when they are asked for."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from batuta.conductor.database.summaries import Counts
from batuta.conductor.database.views.campaign_views import Campaign
from batuta.conductor.database.views.hold_views import HoldView
from batuta.conductor.decisions.circuits import Circuit


@dataclass(frozen=True)
class MetricName:
    """What is counted: its name, what it says, and its label, if it has one."""

    name: str
    help: str
    label: str | None = None


TO_APPROVE: Final = MetricName(
    "batuta_to_approve", "What waits for the approval of a person, by what it waits before", "gate"
)
LATE: Final = MetricName(
    "batuta_late_products", "Products of observations that were due and are not available"
)
STALE: Final = MetricName(
    "batuta_stale_products",
    "Products of observations that are available, and made from what is no longer",
)
UNSTOPPED: Final = MetricName(
    "batuta_unstopped_processings",
    "Processings that were stopped, and whose provider could not be told yet",
)
NOTIFICATIONS: Final = MetricName("batuta_notifications", "Notifications understood")
MALFORMED: Final = MetricName(
    "batuta_malformed", "Dead letters: messages that could not be decoded"
)
REQUESTS: Final = MetricName("batuta_requests", "Requests sent to pipelines")
DROPPED_OBSERVATIONS: Final = MetricName(
    "batuta_dropped_observations",
    "Observations whose records were dropped, to the archive or for good",
)
DROPPED_PROCESSINGS: Final = MetricName(
    "batuta_dropped_processings", "Records of processings that were dropped with them"
)


class ConductorMetrics(Collector):
    """What the conductor has done since its start, and what its database holds.

    Parameters
    ----------
    read_counts : callable
        Returns what the database holds.
    read_holds : callable
        Returns the holds that have not ended.
    read_campaigns : callable
        Returns the campaigns that have not ended.
    read_circuits : callable
        Returns the circuits that are not closed.
    gauges : mapping
        How to read what is so at this moment.
    counters : mapping
        How to read what was done since the start.
    """

    def __init__(
        self,
        read_counts: Callable[[], Counts],
        read_holds: Callable[[], Sequence[HoldView]],
        read_campaigns: Callable[[], Sequence[Campaign]],
        read_circuits: Callable[[], Sequence[Circuit]],
        gauges: Mapping[MetricName, Callable[[], int | Mapping[str, int]]],
        counters: Mapping[MetricName, Callable[[], int]],
    ) -> None:
        self._read_circuits = read_circuits
        self._read_counts = read_counts
        self._read_holds = read_holds
        self._read_campaigns = read_campaigns
        self._gauges = gauges
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        for counter, read in self._counters.items():
            yield CounterMetricFamily(counter.name, counter.help, read())
        counts = self._read_counts()
        yield _gauge(
            "batuta_processings", "Processings by state", "state", sorted(counts.by_state().items())
        )
        for gauge, read_gauge in self._gauges.items():
            value = read_gauge()
            if isinstance(value, int):
                yield GaugeMetricFamily(gauge.name, gauge.help, value)
            else:
                yield _gauge(gauge.name, gauge.help, gauge.label or "", [*value.items()])
        holds = self._read_holds()
        states = Counter(each.state.value for each in holds)
        yield _gauge("batuta_holds", "Holds by state", "state", sorted(states.items()))
        yield _gauge(
            "batuta_kept_back",
            "Processings that a hold keeps back, by its number",
            "hold",
            [(str(each.number), each.keeps) for each in holds],
        )
        circuits = Counter(each.provider for each in self._read_circuits())
        yield _gauge(
            "batuta_open_circuits",
            "Addresses of a provider that are left alone because they keep failing",
            "provider",
            sorted(circuits.items()),
        )
        yield GaugeMetricFamily(
            "batuta_observations", "Observations with an available product", counts.observations
        )
        yield _gauge(
            "batuta_products_available",
            "Observations for which a product is available",
            "product",
            sorted(counts.available.items()),
        )
        yield from _of_campaigns(self._read_campaigns())


def _of_campaigns(campaigns: Sequence[Campaign]) -> Iterator[Metric]:
    """Yield how far the campaigns are that have not ended."""
    states = Counter(each.state for each in campaigns)
    yield _gauge(
        "batuta_campaigns", "Campaigns that have not ended, by state", "state", [*states.items()]
    )
    items = GaugeMetricFamily(
        "batuta_campaign_processings",
        "Processings of campaigns that have not ended, by what became of them",
        labels=["campaign", "state"],
    )
    for each in campaigns:
        progress = each.progress
        numbers = progress.model_dump(exclude={"total", "done"})
        numbers["not_begun"] = progress.total - progress.done - progress.open - progress.awaiting
        for state, number in numbers.items():
            items.add_metric([str(each.number), state], number)
    yield items


def _gauge(name: str, help_: str, label: str, values: list[tuple[str, int]]) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=[label])
    for value, number in values:
        family.add_metric([value], number)
    return family
