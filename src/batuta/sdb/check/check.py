"""The check: records and bytes side by side, a part of all digests at a time."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from batuta.errors import ConfigurationError
from batuta.sdb.check.findings import Finding, Kind, Summary
from batuta.sdb.check.objects import StoredObject, StoredObjects, open_objects
from batuta.sdb.check.ordered_pool import default_threads, ordered_pool
from batuta.sdb.check.recorded import (
    Records,
    RecordsByDigest,
    delete_unnamed_small_files,
    read_records,
    small_files,
    unnamed_now,
)
from batuta.sdb.check.repair import Repairer
from batuta.sdb.check.verify import Verified, Verifier
from batuta.sdb.settings import SdbSettings, store_folder
from batuta.sdb.store import INCOMING, abandoned_files, open_store, remove_abandoned
from batuta.sdb.tables import MIGRATIONS
from batuta.sdb.uploads.partial_file import upload_files
from batuta.sdb.uploads.records import UploadRecords
from batuta.sdb.usage import correct_usage, wrong_usage
from batuta.service.committer import lock_writers
from batuta.service.database import open_database, reading
from batuta.service.database_copy import require_database

GRACE_S: Final = 86_400.0


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """What a check does.

    Attributes
    ----------
    grace_s : float
        Bytes that no record names are no finding until they are older than this: an import stores
        them before it commits their record.
    quick : bool
        Whether sizes alone are compared; nothing is read.
    collect : bool
        Whether bytes that no record names are set aside, and deleted after `grace_s` more.
    repair_from : str or None
        The address of a store that has copies.
    threads : int or None
        How many files are read at a time; by default one per core, in a bucket 16.
    """

    grace_s: float = GRACE_S
    quick: bool = False
    collect: bool = False
    repair_from: str | None = None
    threads: int | None = None


class Check:
    """A check of an sdb.

    Parameters
    ----------
    settings : SdbSettings
        Those of the sdb: its database, its store and its scratch folder.
    options : CheckOptions
        What is done.

    Attributes
    ----------
    summary : Summary
        Of what was given so far.
    """

    def __init__(self, settings: SdbSettings, options: CheckOptions) -> None:
        self.summary = Summary()
        self._settings = settings
        self._options = options
        self._before = datetime.now(UTC) - timedelta(seconds=options.grace_s)
        self._stop = Event()

    def run(self) -> Iterator[Finding]:
        """Yield what is wrong, as it is found.

        Raises
        ------
        ConfigurationError
            If the database or a store does not exist.
        DatabaseError, StoreError
            If one of them cannot be used.
        """
        objects = open_objects(self._settings.store_url, "--store-url")
        given = self._options.repair_from
        source = open_objects(given, "--repair") if given is not None else None
        require_database(self._settings.database_url)
        with open_database(self._settings.database_url, MIGRATIONS) as engine:
            for finding in self._findings(engine, objects, source):
                self.summary.count(finding)
                yield finding

    def _findings(
        self, engine: sa.Engine, objects: StoredObjects, source: StoredObjects | None
    ) -> Iterator[Finding]:
        yield from self._temporary_files()
        yield from self._unnamed_parts(engine)
        yield from (_foreign(path) for path in objects.foreign())
        repairer = Repairer(source, open_store(self._settings), engine) if source else None
        verifier = Verifier(objects, repairer, quick=self._options.quick, stopped=self._stop.is_set)
        # Before any object is listed: the bytes of these records are in the store by now.
        with read_records(engine) as records:
            self._require_records(records)
            self.summary.records = records.count
            threads = self._options.threads or default_threads(is_folder=objects.is_folder)
            # A file under way may be large: it is not read to its end once the check is given up.
            with ordered_pool(threads, self._stop) as run_all:
                jobs = (
                    job
                    for prefix, named in records.by_prefix()
                    for job in self._jobs(engine, objects, verifier, prefix, named)
                )
                for verified in run_all(jobs):
                    self.summary.files += verified.files
                    self.summary.read_bytes += verified.read_bytes
                    yield from verified.findings
        if self._options.collect:
            self._settle_what_was_set_aside(engine, objects)
        yield from self._wrong_usage(engine)

    def _wrong_usage(self, engine: sa.Engine) -> Iterator[Finding]:
        """Yield what quotas are counted by, where it is not the sum of the records."""
        with reading(engine) as connection:
            found = wrong_usage(connection)
        if found and self._options.collect:
            with engine.begin() as connection:
                lock_writers(connection)
                correct_usage(connection)
        for wrong in found:
            yield Finding(
                kind=Kind.USAGE,
                detail=f"{wrong.counted_bytes} bytes are counted for its quota, and its records "
                f"have {wrong.recorded_bytes}" + ("; corrected" if self._options.collect else ""),
                path=f"usage {wrong.product}",
                mended=self._options.collect,
            )

    def _jobs(
        self,
        engine: sa.Engine,
        objects: StoredObjects,
        verifier: Verifier,
        prefix: str,
        named: RecordsByDigest,
    ) -> Iterator[Callable[[], Verified]]:
        """Yield what there is to verify of the digests that begin with `prefix`."""
        in_database: set[str] = set()
        unnamed: dict[str, int] = {}
        for sha256, size, content in small_files(
            engine, prefix, with_content=not self._options.quick
        ):
            if sha256 in named:
                in_database.add(sha256)
                yield verifier.small_file(sha256, size, content, named[sha256])
            else:
                unnamed[sha256] = size
        put_back = self._put_back(objects, prefix, named, in_database)
        found, foreign = objects.with_prefix(prefix)
        yield from (_told(_foreign(path)) for path in foreign)
        yield from map(_told, put_back)
        for sha256, records in named.items():
            if sha256 in found or sha256 not in in_database:
                yield verifier.object(sha256, found.get(sha256), records)
        yield from map(_told, self._unnamed_small_files(engine, unnamed))
        old = {each for each in found.keys() - named.keys() if found[each].modified < self._before}
        yield from map(_told, self._unnamed_objects(engine, objects, {k: found[k] for k in old}))

    def _put_back(
        self,
        objects: StoredObjects,
        prefix: str,
        named: RecordsByDigest,
        in_database: set[str],
    ) -> list[Finding]:
        """Put back what an earlier check has set aside, and a record names."""
        if not self._options.collect:
            return []
        findings = []
        for each in objects.aside(prefix):
            wanted = each.sha256 in named and each.sha256 not in in_database
            if wanted and objects.find(each.sha256) is None:
                objects.put_back(each)
                self.summary.put_back += 1
                findings += [
                    Finding(
                        kind=Kind.MISSING,
                        detail="was set aside: put back",
                        sha256=each.sha256,
                        record=record,
                        mended=True,
                    )
                    for record in named[each.sha256]
                ]
        return findings

    def _unnamed_objects(
        self, engine: sa.Engine, objects: StoredObjects, found: Mapping[str, StoredObject]
    ) -> Iterator[Finding]:
        """Yield the objects that no record names; an import since then has a record by now.

        One whose record is committed while its bytes are set aside finds them put back at once.
        """
        unnamed = unnamed_now(engine, found.keys())
        findings = {each: self._unnamed(objects, each, found[each]) for each in sorted(unnamed)}
        aside = {sha256 for sha256, finding in findings.items() if finding.mended}
        for sha256 in aside - unnamed_now(engine, aside):
            del findings[sha256]
            self._put_back_named(objects, sha256)
        yield from findings.values()

    def _put_back_named(self, objects: StoredObjects, sha256: str) -> None:
        for each in objects.aside(sha256[:2]):
            if each.sha256 == sha256 and objects.find(sha256) is None:
                objects.put_back(each)
                self.summary.put_back += 1

    def _unnamed(self, objects: StoredObjects, sha256: str, found: StoredObject) -> Finding:
        detail = f"no record names it: {found.size} bytes of {found.modified:%Y-%m-%d %H:%M}"
        aside = self._options.collect and objects.set_aside(sha256, found)
        self.summary.set_aside += aside
        return Finding(
            kind=Kind.UNNAMED,
            detail=f"{detail}; set aside" if aside else detail,
            sha256=sha256,
            path=found.path,
            mended=aside,
        )

    def _unnamed_small_files(self, engine: sa.Engine, sizes: dict[str, int]) -> Iterator[Finding]:
        """Yield the small files that no record names; an import since then has a record by now."""
        if not sizes:
            return
        unnamed = unnamed_now(engine, sizes.keys())
        deleted = delete_unnamed_small_files(engine, unnamed) if self._options.collect else set()
        self.summary.deleted += len(deleted)
        for sha256 in sorted(unnamed):
            yield Finding(
                kind=Kind.UNNAMED,
                detail=f"no record names it: {sizes[sha256]} bytes in the database"
                + ("; deleted" if sha256 in deleted else ""),
                sha256=sha256,
                path=f"contents {sha256}",
                mended=sha256 in deleted,
            )

    def _settle_what_was_set_aside(self, engine: sa.Engine, objects: StoredObjects) -> None:
        """Delete what was set aside long ago, and put back what a record names by now.

        An import may have stored the same bytes while these were moved, and counted on them.
        """
        with read_records(engine) as records:
            for prefix, named in records.by_prefix():
                for each in objects.aside(prefix):
                    if each.sha256 in named and objects.find(each.sha256) is None:
                        objects.put_back(each)
                        self.summary.put_back += 1
                    elif each.since < self._before:
                        objects.delete(each.path)
                        self.summary.deleted += 1

    def _temporary_files(self) -> Iterator[Finding]:
        folder = self._receiving_folder
        left = [path for path in abandoned_files(folder) if self._is_old(path)]
        if left and self._options.collect:
            remove_abandoned(folder)
        for path in left:
            done = not path.exists()
            detail = "an upload whose receiving process has died"
            yield Finding(
                kind=Kind.TEMPORARY,
                detail=f"{detail}; deleted" if done else detail,
                path=str(path),
                mended=done,
            )

    def _unnamed_parts(self, engine: sa.Engine) -> Iterator[Finding]:
        """Yield the parts of uploads that no record names: those that one names may go on."""
        parts = upload_files(self._receiving_folder)
        known = UploadRecords(engine).known_among(list(parts))
        for path in (path for name, path in sorted(parts.items()) if name not in known):
            if not self._is_old(path):
                continue
            if self._options.collect:
                path.unlink(missing_ok=True)
            detail = "a part of an upload that no record names"
            yield Finding(
                kind=Kind.TEMPORARY,
                detail=f"{detail}; deleted" if self._options.collect else detail,
                path=str(path),
                mended=self._options.collect,
            )

    @property
    def _receiving_folder(self) -> Path:
        store = store_folder(self._settings.store_url)
        return store / INCOMING if store is not None else self._settings.scratch_folder

    def _is_old(self, path: Path) -> bool:
        try:
            modified_s = path.stat().st_mtime
        except FileNotFoundError:  # the sdb, which runs, has just removed it
            return False
        return datetime.fromtimestamp(modified_s, UTC) < self._before

    def _require_records(self, records: Records) -> None:
        if self._options.collect and not records.count:
            raise ConfigurationError(
                f"--collect: the database {_shown(self._settings.database_url)} has no record, so "
                "that all bytes would be set aside (accepted: the database of this store)"
            )


def _told(finding: Finding) -> Callable[[], Verified]:
    """Return a job that gives a finding: in its place among those of others."""
    return lambda: Verified([finding], files=0)


def _foreign(path: str) -> Finding:
    return Finding(kind=Kind.FOREIGN, detail="no object of an sdb", path=path)


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)
