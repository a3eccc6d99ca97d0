"""Metrics of a pipeline service: counts, durations and waiting times of processings."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from batuta.pipeline.messages import PipelineProcessing

SECONDS: Final = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)


class ProcessingMetrics:
    """The metrics of a service's processings.

    Parameters
    ----------
    count : callable
        How many processings are in each state that has not ended, now.
    """

    def __init__(self, count: Callable[[], Mapping[str, int]]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_CurrentStates(count))
        self._ended = Counter(
            "batuta_processings_ended",
            "Processings that have ended.",
            ["product", "state"],
            registry=self.registry,
        )
        self._dropped = Counter(
            "batuta_dropped_processings",
            "Records of processings that were dropped, to the archive or for good.",
            registry=self.registry,
        )
        self._duration = Histogram(
            "batuta_processing_duration_seconds",
            "From a processing's start to its end.",
            ["product", "state"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._wait = Histogram(
            "batuta_processing_wait_seconds",
            "From a processing's request to its start.",
            ["product"],
            buckets=SECONDS,
            registry=self.registry,
        )

    def record_start(self, record: PipelineProcessing, waited_s: float) -> None:
        """Record that a processing started."""
        self._wait.labels(record.product).observe(waited_s)

    def record_dropped(self, number: int) -> None:
        """Record that so many records of processings were dropped."""
        self._dropped.inc(number)

    def record_end(self, record: PipelineProcessing) -> None:
        """Record that a processing ended."""
        labels = (record.product, record.state.value)
        self._ended.labels(*labels).inc()
        if record.started is not None and record.ended is not None:
            self._duration.labels(*labels).observe((record.ended - record.started).total_seconds())


class _CurrentStates(Collector):
    """Reads the current counts whenever Prometheus scrapes them."""

    def __init__(self, count: Callable[[], Mapping[str, int]]) -> None:
        self._count = count

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "batuta_processings", "Processings that have not ended.", labels=["state"]
        )
        for state, number in self._count().items():
            family.add_metric([state], number)
        yield family
