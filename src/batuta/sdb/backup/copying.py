"""Copies the bytes that records name from one store to another, each file once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Event

import sqlalchemy as sa

from batuta.sdb.check.findings import Finding, Kind
from batuta.sdb.check.objects import StoredObject, StoredObjects
from batuta.sdb.check.ordered_pool import default_threads, ordered_pool
from batuta.sdb.check.recorded import RecordedBytes, read_records, small_files
from batuta.sdb.check.repair import UnreadableObjectError, copy_object
from batuta.sdb.store import NO_DIGEST, LostObjectError, ProductStore


@dataclass
class CopySummary:
    """What was copied.

    Attributes
    ----------
    records, files, size_bytes : int
        How many records name bytes, how many files they name, and the size of these together.
    copied, copied_bytes : int
        How many files were copied: the others were there.
    missing : int
        How many could not be, since the source does not have their bytes.
    """

    records: int = 0
    files: int = 0
    size_bytes: int = 0
    copied: int = 0
    copied_bytes: int = 0
    missing: int = 0

    def count(self, size_bytes: int, copied_bytes: int | None, *, is_missing: bool) -> None:
        """Count a file; `copied_bytes` is None where it was there."""
        self.files += 1
        self.size_bytes += size_bytes
        self.copied += copied_bytes is not None
        self.copied_bytes += copied_bytes or 0
        self.missing += is_missing


@dataclass
class _Copied:
    size_bytes: int
    copied_bytes: int | None = None
    """None where the file was there."""
    findings: list[Finding] = field(default_factory=list)


class FileCopier:
    """Copies files between stores, several at a time.

    Parameters
    ----------
    source, target : StoredObjects
        What the stores have.
    store : ProductStore
        Stores files in the target.
    threads : int or None
        How many are copied at a time; by default one per core and 4 at least, 16 where one of them
        is a bucket.
    """

    def __init__(
        self,
        source: StoredObjects,
        target: StoredObjects,
        store: ProductStore,
        threads: int | None,
    ) -> None:
        self._source = source
        self._target = target
        self._store = store
        both = source.is_folder and target.is_folder
        # Each waits for the disk twice: for its file and for its name.
        self._threads = threads or max(4, default_threads(is_folder=both))

    def copy(self, engine: sa.Engine, report: Callable[[Finding], None]) -> CopySummary:
        """Copy what the records of a database name and the target lacks.

        Parameters
        ----------
        engine : sqlalchemy.Engine
            The database.
        report : callable
            Called for each record whose bytes the source does not have as they were stored.

        Raises
        ------
        StoreError
            If a store cannot be used, be it for one file only where it is the target.
        """
        summary = CopySummary()
        with read_records(engine) as records, ordered_pool(self._threads, Event()) as run_all:
            summary.records = records.count
            jobs = (
                job
                for prefix, named in records.by_prefix()
                for job in self._jobs(engine, prefix, named, summary)
            )
            for done in run_all(jobs):
                summary.count(done.size_bytes, done.copied_bytes, is_missing=bool(done.findings))
                for finding in done.findings:
                    report(finding)
        return summary

    def _jobs(
        self,
        engine: sa.Engine,
        prefix: str,
        named: dict[str, list[RecordedBytes]],
        summary: CopySummary,
    ) -> Iterator[Callable[[], _Copied]]:
        if not named:
            return
        small = small_files(engine, prefix, with_content=False)
        in_database = {sha256 for sha256, _, _ in small}
        found, _ = self._target.with_prefix(prefix)
        for sha256, records in named.items():
            if sha256 in in_database:
                summary.count(records[0].size, None, is_missing=False)
            else:
                yield partial(self._copy, records, found.get(sha256))

    def _copy(self, records: Sequence[RecordedBytes], found: StoredObject | None) -> _Copied:
        sha256, size = records[0].sha256, records[0].size
        if found is not None and found.size == size:
            return _Copied(size)
        try:
            others = copy_object(self._source, self._store, sha256, size)
        except LostObjectError:
            return _Copied(size, findings=_findings(records, Kind.MISSING, "not in the store"))
        except UnreadableObjectError as exc:
            self._source.find(NO_DIGEST)  # or the store does not answer, for no file
            return _Copied(size, findings=_findings(records, Kind.UNREADABLE, str(exc)))
        if others is None:
            return _Copied(size, size)
        detail = f"{others[0]} bytes with SHA-256 {others[1]}"
        return _Copied(size, findings=_findings(records, Kind.DIGEST, detail))


def _findings(records: Sequence[RecordedBytes], kind: Kind, detail: str) -> list[Finding]:
    return [
        Finding(kind=kind, detail=f"{detail}: not copied", sha256=each.sha256, record=each)
        for each in records
    ]
