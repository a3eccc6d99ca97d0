"""Verifies the bytes of one digest against the records that name them."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from batuta.sdb.check.findings import Finding, Kind
from batuta.sdb.check.objects import StoredObject, StoredObjects
from batuta.sdb.check.recorded import RecordedBytes
from batuta.sdb.check.repair import Repairer
from batuta.sdb.store import LostObjectError, StoreError


@dataclass
class Verified:
    """What was found of a file, and how much of it was read."""

    findings: list[Finding]
    read_bytes: int = 0
    files: int = 1


class _Damage(Exception):  # noqa: N818  caught here, and turned into findings
    """What is wrong with the bytes of a digest."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class Verifier:
    """Makes jobs that verify files, to be run in threads.

    Parameters
    ----------
    objects : StoredObjects
        Those of the store.
    repairer : Repairer or None
        Mends what is wrong.
    quick : bool
        Whether sizes alone are compared.
    stopped : callable
        Tells whether the check was given up.
    """

    def __init__(
        self,
        objects: StoredObjects,
        repairer: Repairer | None,
        *,
        quick: bool,
        stopped: Callable[[], bool],
    ) -> None:
        self._objects = objects
        self._repairer = repairer
        self._quick = quick
        self._stopped = stopped

    def object(
        self, sha256: str, found: StoredObject | None, records: Sequence[RecordedBytes]
    ) -> Callable[[], Verified]:
        """Return a job that verifies an object of the store; `found` is None if none was listed."""
        return partial(self._verify_object, sha256, found, records)

    def small_file(
        self, sha256: str, size: int, content: bytes | None, records: Sequence[RecordedBytes]
    ) -> Callable[[], Verified]:
        """Return a job that verifies a file in the database; without `content`, its size."""
        return partial(self._verify_small_file, sha256, size, content, records)

    def _verify_object(
        self, sha256: str, found: StoredObject | None, records: Sequence[RecordedBytes]
    ) -> Verified:
        verified = Verified([])
        try:
            verified.read_bytes = self._compare_object(sha256, found, records)
        except LostObjectError:
            damage = _Damage(Kind.MISSING, self._where_missing(sha256))
        except StoreError as exc:
            damage = _Damage(Kind.UNREADABLE, str(exc))
        except _Damage as exc:
            damage = exc
        else:
            return verified
        verified.findings = self._damaged(damage, records, in_database=False)
        return verified

    def _compare_object(
        self, sha256: str, found: StoredObject | None, records: Sequence[RecordedBytes]
    ) -> int:
        """Compare an object with its records; return how many bytes were read."""
        # One that is replaced while it is listed may be left out.
        found = found or self._objects.find(sha256)
        if found is None:
            raise LostObjectError(f"{sha256}: not found")
        _compare_sizes(found.size, records)
        if self._quick:
            return 0
        self._compare_digest(sha256, self._objects.chunks(sha256))
        return found.size

    def _verify_small_file(
        self, sha256: str, size: int, content: bytes | None, records: Sequence[RecordedBytes]
    ) -> Verified:
        verified = Verified([], read_bytes=0 if content is None else size)
        try:
            _compare_sizes(size, records)
            if content is not None:
                self._compare_digest(sha256, [memoryview(content)])
        except _Damage as damage:
            verified.findings = self._damaged(damage, records, in_database=True)
        return verified

    def _compare_digest(self, sha256: str, chunks: Iterable[memoryview]) -> None:
        digest = hashlib.sha256()
        for chunk in chunks:
            if self._stopped():
                return
            digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise _Damage(Kind.DIGEST, f"its bytes have SHA-256 {digest.hexdigest()}")

    def _damaged(
        self, damage: _Damage, records: Sequence[RecordedBytes], *, in_database: bool
    ) -> list[Finding]:
        """Return the findings for all records of damaged bytes, once these were mended."""
        mended, detail = False, damage.detail
        if in_database:
            detail += " (in the database)"
        if self._repairer is not None:
            record = records[0]
            outcome = self._repairer.repair(record.sha256, record.size, in_database=in_database)
            mended, detail = outcome.mended, f"{detail}; {outcome.text}"
        return [
            Finding(
                kind=damage.kind,
                detail=detail,
                sha256=record.sha256,
                record=record,
                mended=mended and record.size == records[0].size,
            )
            for record in records
        ]

    def _where_missing(self, sha256: str) -> str:
        aside = self._objects.aside(sha256[:2])
        if any(each.sha256 == sha256 for each in aside):
            return "not in the store; it was set aside, and --collect puts it back"
        return "not in the store"


def _compare_sizes(size: int, records: Sequence[RecordedBytes]) -> None:
    for record in records:
        if record.size != size:
            raise _Damage(Kind.SIZE, f"{size} bytes, {record.size} recorded")
