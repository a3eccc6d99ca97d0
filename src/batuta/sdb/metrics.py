"""The Prometheus metrics of the sdb."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from batuta.sdb.quota import Quota


class SdbMetrics:
    """Counters and gauges, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.imports = self._counter("imports", "Product versions recorded")
        self.repeats = self._counter("repeated_imports", "Imports already recorded, asked again")
        self.other_bytes = self._counter(
            "repeated_imports_of_other_bytes", "Of these, those whose bytes were not the first ones"
        )
        self.imported_bytes = self._counter("imported_bytes", "Bytes of the versions recorded")
        self.exports = self._counter("exports", "Files, or parts of files, sent")
        self.exported_bytes = self._counter("exported_bytes", "Bytes sent")
        self.cut = self._counter("cut_uploads", "Uploads whose sender went away half-way")
        self.resumed = self._counter("resumed_uploads", "Requests that have gone on with an upload")
        self.drawn = self._counter("drawn_quicklooks", "Quicklooks drawn")
        self.not_drawn = self._counter("failed_quicklooks", "Files that could not be drawn")
        self.refused = Counter(
            "batuta_sdb_refused_uploads",
            "Uploads refused, by HTTP status",
            ["status"],
            registry=self.registry,
        )
        self.receiving = Gauge("batuta_sdb_receiving", "Uploads under way", registry=self.registry)
        self._outbox = Gauge(
            "batuta_sdb_outbox_length",
            "Announcements not yet published on NATS",
            registry=self.registry,
        )

        self._outbox_age = Gauge(
            "batuta_sdb_outbox_oldest_seconds",
            "How long the oldest of these has waited",
            registry=self.registry,
        )

    def report_usage(self, quota: Quota) -> None:
        """Report what is kept, and what is left, at each scrape."""
        self._gauge("stored_bytes", "Bytes of all versions and quicklooks").set_function(
            quota.used_bytes
        )
        limits = quota.limits
        if limits.total_bytes is not None:
            self._gauge("quota_bytes", "The most that they may be").set(limits.total_bytes)
        if limits.free_bytes:
            self._gauge("disk_free_bytes", "Free on the disk of the store").set_function(
                quota.free_bytes
            )
            self._gauge("keep_free_bytes", "To be left free on it").set(limits.free_bytes)

    def report_uploads(self, count: Callable[[], int], received: Callable[[], int]) -> None:
        """Report how many uploads wait to be resumed, and their bytes, at each scrape."""
        self._gauge("open_uploads", "Uploads that are not complete").set_function(count)
        self._gauge("open_uploads_bytes", "What was received of them").set_function(received)

    def report_outbox(self, length: Callable[[], int], oldest_age_s: Callable[[], float]) -> None:
        """Report `length()` and `oldest_age_s()` of the outbox at each scrape."""
        self._outbox.set_function(length)
        self._outbox_age.set_function(oldest_age_s)

    def _gauge(self, name: str, help_: str) -> Gauge:
        return Gauge(f"batuta_sdb_{name}", help_, registry=self.registry)

    def _counter(self, name: str, help_: str) -> Counter:
        return Counter(f"batuta_sdb_{name}", help_, registry=self.registry)
